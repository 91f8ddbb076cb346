// One clock, `state.position`, drives the whole page: `render` draws everything from `state`, and every control only
// changes `state`. Position k is the moment before step k + 1; the last position is the finished image.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const last = data.steps.length;
const state = { position: Math.round(last * 0.45), run: 0, word: null, average: true, timer: null };
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}\u00a0%`;
const number = (value) => String(Number(value.toFixed(2)));

// --- images: each run carries two sprites (x_t and x0), all kept frames of a run in one image ---------------------

async function loadRun(run) {
  run.sprites = { x_t: await loadImage(run.x_t), x0: await loadImage(run.x0) };
  const maps = await loadImage(run.maps.image);
  const canvas = element("canvas", { width: maps.width, height: maps.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(maps, 0, 0);
  run.maps.pixels = context.getImageData(0, 0, maps.width, maps.height);
}

// The newest kept frame that is not newer than the position (only a few frames of some runs are kept).
function frameAt(run, position) {
  let frame = 0;
  while (frame + 1 < run.kept.length && run.kept[frame + 1] <= position) frame += 1;
  return frame;
}

function drawFrame(context, run, kind, frame, x, y) {
  const [w, h] = data.thumb;
  const column = frame % data.columns, row = Math.floor(frame / data.columns);
  context.drawImage(run.sprites[kind], column * w, row * h, w, h, x, y, w, h);
}

function show(canvas, run, kind, position, label) {
  const [w, h] = data.thumb;
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  drawFrame(canvas.getContext("2d"), run, kind, frameAt(run, position), 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
}

// A film strip of ten predictions: later ones are pale, the current one has a frame.
const stripPositions = Array.from({ length: 10 }, (_, i) => Math.round((i * last) / 9));

function showStrip(canvas, run) {
  const [w, h] = data.thumb, gap = Math.round(w / 16), chosen = stripPositions;
  [canvas.width, canvas.height] = [chosen.length * (w + gap) - gap, h];
  const context = canvas.getContext("2d");
  const current = chosen.findLastIndex((position) => position <= state.position);
  chosen.forEach((position, i) => {
    context.globalAlpha = i <= current ? 1 : 0.35;
    drawFrame(context, run, "x0", frameAt(run, position), i * (w + gap), 0);
  });
  context.globalAlpha = 1;
  context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  context.lineWidth = gap;
  context.strokeRect(current * (w + gap) + gap / 2, gap / 2, w - gap, h - gap);
}

// --- attention: the maps of a run are one grey image, a row for each kept frame, a column for each word -------------

function wordMap(run, word, frames) {
  const { width, height, pixels, low, high } = run.maps;
  const map = new Float32Array(width * height);
  for (const frame of frames) {
    for (let i = 0; i < map.length; i += 1) {
      const x = word * width + (i % width), y = frame * height + Math.floor(i / width);
      map[i] += pixels.data[4 * (y * pixels.width + x)] / 255 / frames.length;
    }
  }
  return map.map((share) => low[word] + share * (high[word] - low[word]));
}

function showHeat(run) {
  const rows = run.kept.length - 1;
  const now = Math.min(frameAt(run, state.position), rows - 1);
  const frames = state.average ? Array.from({ length: rows }, (_, i) => i) : [now];
  const maps = run.words.map((_, word) => wordMap(run, word, frames));
  showShares(run, maps.map((map) => map.reduce((sum, value) => sum + value, 0) / map.length));
  const map = maps[state.word];
  const low = Math.min(...map), high = Math.max(...map);
  const canvas = $("heat-map"), { width, height } = run.maps;
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(new ImageData(glow(map), width, height), 0, 0);
  const name = run.words[state.word];
  const when = state.average ? `mean of ${rows} steps` : `step ${run.kept[now] + 1}`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `The attention to ${name}, ${when}`);
  show($("heat-picture"), run, "x0", state.average ? last : state.position, "The image, in grey");
  $("heat-caption").replaceChildren(
    element("b", {}, name), `, ${when}: from ${percent(low, 1)} (grey) to ${percent(high, 1)} (bright) of a position's attention`,
  );
}

// The mean attention to each word over all positions.
function showShares(run, shares) {
  const most = Math.max(...shares);
  $("shares").replaceChildren(...run.words.flatMap((word, i) => {
    const chosen = i === state.word ? "chosen" : "", bar = element("div", { class: `bar ${chosen}` });
    bar.style.width = `${(100 * shares[i]) / most}%`;
    return [element("dt", { class: chosen }, word), bar, element("dd", { class: chosen }, percent(shares[i], 1))];
  }));
}

function makeChips(run) {
  $("chips").replaceChildren(...run.words.map((word, i) => {
    const mark = i === 0 || i === run.words.length - 1;
    const chip = element("button", { type: "button", class: mark ? "mark" : "" }, word);
    chip.addEventListener("click", () => { state.word = i; render(); });
    return chip;
  }));
  $("flow-words").replaceChildren(...data.runs[0].words.slice(1, -1).map((word) => element("span", {}, word)));
}

// --- plots: stretched SVG, so that they fit any width; the words around them are HTML and keep their size -----------

function path(kind, d) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
  made.setAttribute("class", kind);
  made.setAttribute("d", d);
  return made;
}

// `points`: [x, y] in [0, 1], y upwards. Returns a function that moves the marker.
function makePlot(holder, label, points, marks, ends) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1000 1000");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const line = points.map(([x, y]) => `${(1000 * x).toFixed(1)} ${(1000 - 1000 * y).toFixed(1)}`).join(" L ");
  const edge = (i) => (1000 * points.at(i)[0]).toFixed(1);
  svg.append(
    path("back", "M 0 0 H 1000 V 1000 H 0 Z"),
    path("area", `M ${edge(0)} 1000 L ${line} L ${edge(-1)} 1000 Z`),
    path("marks", marks.map((x) => `M ${(1000 * x).toFixed(1)} 1000 v -28`).join(" ")),
    path("line", `M ${line}`),
  );
  const rule = path("rule", ""), dot = path("dot", ""), inner = path("dot inner", "");
  svg.append(rule, dot, inner);
  holder.replaceChildren(svg, element("div", { class: "ends", "aria-hidden": "true" }, ...ends.map((end) => element("span", {}, end))));
  return (x, y) => {
    rule.setAttribute("d", `M ${1000 * x} 0 V 1000`);
    for (const mark of [dot, inner]) mark.setAttribute("d", `M ${1000 * x} ${1000 - 1000 * y} h 0`);
  };
}

const alphaBar = (position) => (position < last ? data.steps[position].alpha_bar : data.curve[0][1]);
const along = (position) => 1 - (position < last ? data.steps[position].t : 0) / (data.levels - 1);
const moveOnCurve = makePlot(
  $("curve"), "The share of signal, from pure noise on the left to the image on the right",
  data.curve.map(([t, share]) => [1 - t / (data.levels - 1), share]).reverse(), data.steps.map((_, i) => along(i)),
  [`t = ${data.levels - 1}, noise`, "t = 0, image"],
);
let moveOnInfluence = null;

function makeInfluence(run) {
  $("influence-figure").hidden = !run.influence;
  moveOnInfluence = null;
  if (!run.influence) return;
  const top = 1.1 * Math.max(...run.influence) || 1;
  const points = run.influence.map((size, i) => [last > 1 ? i / (last - 1) : 0, size / top]);
  const move = makePlot($("influence"), "How much the prompt changes the prediction at each step", points, [], ["first step", "last step"]);
  moveOnInfluence = (step) => move(...points[step]);
}
