"use strict";
// The list of exercises: a box to tick for each one solved, and how many that are.

addEventListener("DOMContentLoaded", () => {
  const boxes = [...document.querySelectorAll("input[data-exercise]")], solved = memory.read("solved");
  const count = document.querySelector(".solved-count");
  const say = () => {
    count.textContent = `${boxes.filter((box) => box.checked).length} of ${boxes.length} solved`;
  };
  for (const box of boxes) {
    box.hidden = false;
    box.checked = Boolean(solved[box.dataset.exercise]);
    box.addEventListener("change", () => {
      solved[box.dataset.exercise] = box.checked;
      memory.write("solved", solved);
      say();
    });
  }
  if (count) say();
});
