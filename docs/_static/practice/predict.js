"use strict";
// A question waits for a guess: what follows it in its section is hidden until then. Guesses are kept (memory.js).

const SAY = {
  en: {
    guess: "Your guess", show: "See what happens", guessed: "Your guess:", again: "Guess again",
    all: "I only want to read: show everything on this page",
  },
  fr: {
    guess: "Votre pronostic", show: "Voir ce qui se passe", guessed: "Votre pronostic :", again: "Recommencer",
    all: "Je veux seulement lire : tout montrer sur cette page",
  },
}[document.documentElement.lang.startsWith("fr") ? "fr" : "en"];
const PAGE = location.pathname.split("/").pop().split(".html")[0], EVERYTHING = "everything";

function make(tag, attributes, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

// The cells that answer a question, one group a question: folded cells with no prose between them.
function answers() {
  const groups = [];
  for (const fold of document.querySelectorAll("div.cell > details.hide")) {
    const cell = fold.parentElement, group = groups.at(-1);
    if (group && group.at(-1).nextElementSibling === cell) group.push(cell);
    else groups.push([cell]);
    fold.replaceWith(...[...fold.children].slice(1)); // instead of its summary there will be a question
  }
  return groups;
}

// All that comes after an element, up to the next heading.
function rest(element) {
  const found = [];
  for (let next = element.nextElementSibling; next && next.tagName !== "SECTION"; next = next.nextElementSibling) found.push(next);
  return found;
}

function ask(cells, number, render) {
  const asked = cells[0].previousElementSibling?.textContent ?? "", key = `${number} ${asked.slice(-60)}`;
  const field = make("textarea", { id: `guess-${number}`, rows: 2 });
  const button = make("button", { type: "submit", textContent: SAY.show, disabled: true });
  const all = make("button", { type: "button", className: "quiet", textContent: SAY.all });
  const form = make("form", { className: "guess" }, make("label", { htmlFor: field.id, textContent: SAY.guess }), field,
    make("div", {}, button, all));
  const said = make("span", {}), again = make("button", { type: "button", className: "quiet", textContent: SAY.again });
  const told = make("div", { className: "guessed", tabIndex: -1 }, make("strong", { textContent: SAY.guessed }), " ", said, " ", again);
  cells[0].before(form, told);
  field.addEventListener("input", () => { button.disabled = !field.value.trim(); });
  form.addEventListener("submit", (event) => { event.preventDefault(); render(key, field.value.trim()); told.focus(); });
  again.addEventListener("click", () => { render(key, null); field.focus(); });
  all.addEventListener("click", () => { render(EVERYTHING, true); });
  return { key, form, told, said };
}

addEventListener("DOMContentLoaded", () => {
  const kept = memory.read("guesses"), guesses = (kept[PAGE] ??= {});
  const questions = answers().map((cells, i) => ask(cells, i, render));
  function render(key, guess) {
    if (key) {
      if (guess === null) { delete guesses[key]; delete guesses[EVERYTHING]; } else guesses[key] = guess;
      memory.write("guesses", kept);
    }
    const hidden = new Set();
    for (const { key: mine, form, told, said } of questions) {
      const guessed = mine in guesses, open = guessed || EVERYTHING in guesses;
      form.hidden = open;
      told.hidden = !guessed;
      said.textContent = guesses[mine] ?? "";
      for (const element of rest(told)) if (!open) hidden.add(element);
    }
    for (const { told } of questions) for (const element of rest(told)) element.classList.toggle("unseen", hidden.has(element));
  }
  render();
});
