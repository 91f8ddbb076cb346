"use strict";
// What the reader did on these pages: guesses, exercises solved. Kept in this browser, and nowhere else.

const memory = {
  read(key) {
    try { return JSON.parse(localStorage.getItem(`ldm.${key}`)) ?? {}; } catch { return {}; } // it may be forbidden
  },
  write(key, value) {
    try { localStorage.setItem(`ldm.${key}`, JSON.stringify(value)); } catch { /* then it lasts as long as the page */ }
  },
};
