"use strict";
// The VAE's round trip: a drawing becomes a latent, which is shown in grey, and an image again.

const INKS = ["#1c1a18", "#ffffff", "#d8362a", "#f08a24", "#f3cd3a", "#3f9c5a", "#2f6fd0", "#8a4fbf"];
const PAPER = "#f3efe6", BRUSH = 7, KEY_STEP = 4;

// A board to draw on, with mouse, finger or keyboard. `drawn` is called after each stroke.
function drawingBoard(size, drawn) {
  const canvas = element("canvas", { width: size, height: size, tabindex: 0, role: "img", class: "board" });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let ink = INKS[0], pen = [size / 2, size / 2], down = false;
  Object.assign(context, { lineCap: "round", lineJoin: "round", lineWidth: BRUSH });

  function line(to) {
    context.strokeStyle = ink;
    context.beginPath();
    context.moveTo(...pen);
    context.lineTo(to[0] + 0.01, to[1]);
    context.stroke();
    pen = to;
  }
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * size, ((event.clientY - box.top) / box.height) * size];
  };
  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    [pen, down] = [place(event), true];
    line(pen);
  });
  canvas.addEventListener("pointermove", (event) => { if (down && event.buttons) line(place(event)); });
  for (const type of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(type, () => { if (down) drawn(); down = false; });
  }
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.key === " ") {
      down = !down;
      if (down) line(pen);
      else drawn();
    } else if (event.key in ways) {
      const to = pen.map((value, i) => Math.max(0, Math.min(size, value + KEY_STEP * ways[event.key][i])));
      if (down) line(to);
      else pen = to;
    } else return;
    event.preventDefault();
  });
  const paint = (picture) => {
    if (picture) context.drawImage(picture, 0, 0);
    else Object.assign(context, { fillStyle: PAPER }).fillRect(0, 0, size, size);
  };
  return { canvas, paint, use: (colour) => { ink = colour; } };
}

// The channels of a latent, side by side in two rows, from black (lowest) to white (highest).
function latentImage(latent, [channels, height, width]) {
  const columns = Math.ceil(channels / 2), bytes = new Uint8ClampedArray(4 * columns * width * 2 * height).fill(255);
  const low = Math.min(...latent), high = Math.max(...latent);
  latent.forEach((value, i) => {
    const c = Math.floor(i / (height * width)), y = Math.floor(i / width) % height, x = i % width;
    const row = Math.floor(c / columns) * height + y, column = (c % columns) * width + x;
    bytes.fill((255 * (value - low)) / (high - low || 1), 4 * (row * columns * width + column), 4 * (row * columns * width + column) + 3);
  });
  return canvasOf({ width: columns * width, height: 2 * height, bytes });
}

const psnr = (a, b) => -10 * Math.log10(a.reduce((sum, v, i) => sum + ((v - b[i]) / 2) ** 2, 0) / a.length);

PIECES.roundtrip = (piece, { card, latent, shape, roundtrip }, model) => {
  const board = drawingBoard(128, () => changed());
  piece.image(TELL.drawing, board.canvas);
  board.canvas.setAttribute("aria-label", TELL.canvas);
  board.canvas.title = TELL.canvas;
  const middle = piece.image(TELL.latents(shape)), back = piece.image(TELL.back);
  const inks = INKS.map((colour, i) => element("button", {
    type: "button", class: "ink", style: `background: ${colour}`, "aria-label": TELL.colour(TELL.colours[i]), title: TELL.colours[i],
    "aria-pressed": i === 0, onclick: () => {
      board.use(colour);
      inks.forEach((button, j) => button.setAttribute("aria-pressed", i === j));
    },
  }));
  piece.controls.append(element("div", { class: "inks", role: "group" }, ...inks));
  piece.action(TELL.clear, () => { board.paint(null); changed(); });
  piece.action(TELL.card, begin);
  const pictures = Promise.all([readSprite(card, 1, [128, 128], 1), sprites(roundtrip)]);
  let live = false, complain = null;
  piece.images.classList.add("roundtrip");

  async function begin() {
    const [[postcard], [decoded]] = await pictures;
    board.paint(postcard);
    if (live) return changed();
    middle(latentImage(floats(latent), shape));
    tell(planesOf(board.canvas), planesOf(decoded));
    back(decoded);
  }

  function tell(drawn, planes) {
    const few = shape.reduce((product, side) => product * side, 1);
    piece.said.textContent = `${TELL.numbers(grouped(planes.length), grouped(few))} ${TELL.lost(plain(psnr(drawn, planes), 1))}`;
  }

  const compute = newest(async () => {
    try {
      const drawn = planesOf(board.canvas), { latent: found } = await model.ask("encode", { pixels: drawn });
      const picture = canvasOf(await model.ask("decode", { latent: found }));
      middle(latentImage(found, shape));
      back(picture);
      tell(drawn, planesOf(picture));
    } catch (error) {
      complain(error);
    }
  });

  function changed() {
    if (live) compute();
  }

  begin();
  return {
    needs: ["encoder"],
    ready(failed) {
      [live, complain] = [true, failed];
      return compute();
    },
  };
};
