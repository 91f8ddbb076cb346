"use strict";
// A piece of the tour: images and a slider or two, computed in the page, or recorded as long as there is no model.
//
// Each kind of piece is a function in a file of its own, which gets a `Piece` and the recording, and returns what is to be
// done when the model is there.

const PIECES = {}; // filled by the other files: name -> (piece, recorded) => { live, size, ready }

const grouped = (value) => value.toLocaleString(document.documentElement.lang || "en");
const plain = (value, digits = 2) => fixed(value, value >= 100 ? 0 : value < 0.01 ? 4 : digits);

// Calls `act` with the newest arguments only: what comes while it is busy waits, and replaces what waited before.
function newest(act) {
  let busy = false, waiting = null;
  return async (...given) => {
    waiting = given;
    if (busy) return;
    busy = true;
    try {
      while (waiting) {
        const now = waiting;
        waiting = null;
        await act(...now);
      }
    } finally {
      busy = false;
    }
  };
}

class Piece {
  constructor(root) {
    this.root = root;
    this.id = `piece-${root.dataset.piece}`;
    this.images = element("div", { class: "images" });
    this.controls = element("div", { class: "controls" });
    this.said = element("p", { class: "said", "aria-live": "polite" });
    this.status = element("span", {});
    this.button = element("button", { type: "button", class: "use" });
    this.foot = element("p", { class: "foot" }, this.status, this.button);
    root.replaceChildren(this.images, this.controls, this.said, this.foot);
  }

  // A canvas with a caption; returns a function that shows a canvas in it.
  image(caption, canvas = element("canvas", { width: 128, height: 128, role: "img" })) {
    const words = element("figcaption", {}, caption);
    this.images.append(element("figure", {}, canvas, words));
    return (picture, said) => {
      if (said) words.textContent = said;
      canvas.setAttribute("aria-label", words.textContent);
      Object.assign(canvas, { width: picture.width, height: picture.height });
      canvas.getContext("2d").drawImage(picture, 0, 0);
    };
  }

  slider(name, label, { min, max, step = 1, value }, changed) {
    const input = element("input", { type: "range", id: `${this.id}-${name}`, min, max, step, value });
    const output = element("output", { for: input.id }, String(value));
    input.addEventListener("input", () => { output.textContent = input.value; changed(); });
    this.controls.append(element("div", { class: "control" }, element("label", { for: input.id }, label), output, input));
    return input;
  }

  field(name, label, value, changed) {
    const input = element("input", { type: "text", id: `${this.id}-${name}`, value, maxlength: 300, spellcheck: "false", autocomplete: "off" });
    input.addEventListener("input", changed);
    this.controls.append(element("div", { class: "control wide" }, element("label", { for: input.id }, label), input));
    return input;
  }

  action(label, act) {
    const button = element("button", { type: "button", onclick: act }, label);
    this.controls.append(button);
    return button;
  }
}

function mountPiece(root) {
  const recorded = PLAYGROUND.pieces, model = theModel(), piece = new Piece(root);
  const { needs = [], ready, live = false } = PIECES[root.dataset.piece](piece, recorded, model);
  piece.foot.hidden = live; // it needs no model
  let opened = false, opening = false, wanted = false;
  const missing = () => (model.phase === "ready" ? 0 : model.size) + needs.reduce((sum, network) => sum + sizeOf(model.later(network)), 0);
  const render = () => {
    piece.button.hidden = opened || !model.settings;
    piece.button.textContent = model.phase === "loading" ? TELL.stop : TELL.use(megabytes(missing()));
    if (model.phase === "loading") piece.status.textContent = progressOf(model);
    else if (opened) piece.status.textContent = TELL.live;
    else piece.status.textContent = model.settings ? TELL.recorded : TELL.without;
  };
  const complain = (error) => {
    opened = false;
    render();
    piece.status.textContent = `${TELL.error} ${error.message}`;
  };
  const open = async () => {
    if (opening || opened) return;
    opening = piece.button.disabled = true;
    piece.status.textContent = SAY.opening;
    try {
      for (const network of needs) await model.open(network);
      opened = true;
      render();
      await ready(complain);
    } catch (error) {
      complain(error);
    } finally {
      opening = piece.button.disabled = false;
    }
  };
  piece.button.addEventListener("click", () => {
    if (model.phase === "loading") return model.stop();
    wanted = true;
    if (model.phase === "ready") open();
    else model.load();
  });
  model.hearers.add(({ type, text }) => {
    if (type === "ready" && (wanted || !needs.length)) open(); // what needs no more than is there begins by itself
    if (type === "unloaded") opened = wanted = false;
    if (type === "error" && wanted) complain(new Error(text));
    else if (["progress", "ready", "unloaded"].includes(type)) render();
  });
  render();
}
