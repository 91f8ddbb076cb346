// --- drawing the state ----------------------------------------------------------------------------------------------

const name = (run) => (run.prompt === "" ? "(no words)" : run.prompt);

function render() {
  const run = data.runs[state.run], position = state.position, done = position === last;
  const kept = run.kept[frameAt(run, position)], share = alphaBar(position);
  const when = kept === last ? `after all ${last} steps` : `t = ${Math.round(data.steps[kept].t)}, after ${kept} of ${last} steps`;
  show($("flow-now"), data.runs[0], "x_t", position, `The latent ${when}`);
  show($("now-x_t"), run, "x_t", position, `The latent, decoded, ${when}`);
  show($("now-x0"), run, "x0", position, `The prediction of the finished image, ${when}`);
  $("caption-x_t").textContent = `the latent, decoded: ${when}`;
  $("caption-x0").textContent = done ? "the finished image" : "the prediction from it";
  showHeat(run);
  for (const [i, chip] of [...$("chips").children].entries()) chip.setAttribute("aria-pressed", String(i === state.word));
  $("all-steps").setAttribute("aria-pressed", String(state.average));
  $("this-step").setAttribute("aria-pressed", String(!state.average));
  moveOnCurve(along(position), share);
  $("signal").textContent = percent(share, 1);
  $("noise").textContent = percent(1 - share, 1);
  $("mixture").textContent = `${Math.sqrt(share).toFixed(2)} · image + ${Math.sqrt(1 - share).toFixed(2)} · noise`;
  if (moveOnInfluence) {
    const step = Math.min(position, last - 1);
    moveOnInfluence(step);
    $("influence-now").textContent = percent(run.influence[step], 1);
  }
  for (const button of document.querySelectorAll("[data-run]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.run) === state.run));
  }
  for (const rival of [0, data.versus]) {
    show($(`rival-${rival}`), data.runs[rival], "x0", position, `The prediction for ${name(data.runs[rival])}, ${when}`);
    showStrip($(`strip-${rival}`), data.runs[rival]);
  }
  const where = done ? "finished" : `step ${position + 1} of ${last}`;
  $("where").replaceChildren(where, element("span", { class: "wide" }, ` · ${percent(1 - share)} noise`));
  $("which").replaceChildren(element("span", { class: "wide" }, `${name(run)} · `), `seed ${run.seed} · g = ${number(run.guidance)}`);
  $("slider").value = position;
  $("slider").setAttribute("aria-valuetext", `${where}, ${percent(1 - share)} noise`);
}

function goTo(position) {
  state.position = Math.max(0, Math.min(last, Math.round(position)));
  render();
}

function longestWord(run) {
  const lengths = run.words.slice(1, -1).map((word) => word.length);
  return lengths.length ? 1 + lengths.indexOf(Math.max(...lengths)) : 0;
}

function follow(index) {
  state.run = index;
  const run = data.runs[index];
  if (state.word === null) state.word = longestWord(run);
  state.word = Math.min(state.word, run.words.length - 1);
  makeChips(run);
  makeInfluence(run);
  render();
}

// --- playing --------------------------------------------------------------------------------------------------------

const icon = (d) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path("", d));
  return svg;
};

function play(on) {
  clearInterval(state.timer);
  state.timer = on ? setInterval(() => {
    goTo(state.position + 1);
    if (state.position === last) play(false);
  }, Math.max(60, Math.min(250, 5000 / last))) : null;
  if (on && state.position === last) goTo(0);
  $("play").setAttribute("aria-label", on ? "Pause" : "Play");
  $("play").replaceChildren(icon(on ? "M7 5h4v14H7zM13 5h4v14h-4z" : "M8 5v14l11-7z"));
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  if (event.key === " " && event.target.matches("button, a")) return;
  const moves = { ArrowLeft: state.position - 1, ArrowRight: state.position + 1, Home: 0, End: last };
  if (event.key in moves) {
    play(false);
    goTo(moves[event.key]);
  } else if (event.key === " ") {
    play(!state.timer);
  } else return;
  event.preventDefault();
}

// Drag or swipe sideways over an image: its width is the whole run.
function makeScrubbed(area) {
  let from = null;
  area.addEventListener("pointerdown", (event) => {
    from = { x: event.clientX, position: state.position };
  });
  area.addEventListener("pointermove", (event) => {
    if (!from || Math.abs(event.clientX - from.x) < 4) return;
    area.setPointerCapture(event.pointerId); // not before: it would take the click from a button inside
    play(false);
    goTo(from.position + ((event.clientX - from.x) / area.clientWidth) * last);
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) area.addEventListener(end, () => { from = null; });
}

// Press or drag on a plot or a film strip: go to the place below the finger.
function makeSought(area, position) {
  const seek = (event) => {
    const box = area.getBoundingClientRect();
    play(false);
    goTo(position((event.clientX - box.left) / box.width));
  };
  area.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    area.setPointerCapture(event.pointerId);
    seek(event);
  });
  area.addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });
}

function nearestStep(x) {
  const away = (position) => Math.abs(along(position) - x);
  return Array.from({ length: last + 1 }, (_, i) => i).reduce((a, b) => (away(b) < away(a) ? b : a));
}

// --- building what depends on the data ------------------------------------------------------------------------------

function makeGallery(holder, runs, label) {
  holder.replaceChildren(...runs.map((index) => {
    const canvas = element("canvas"), run = data.runs[index];
    show(canvas, run, "x0", last, `${name(run)}, ${label(run)}`);
    const button = element("button", { type: "button", "data-run": index }, canvas, element("span", {}, label(run)));
    button.addEventListener("click", () => follow(index));
    return button;
  }));
}

function makeRivals() {
  const rivals = [0, data.versus];
  $("rivals").replaceChildren(...rivals.map((index) => {
    const title = element("button", { type: "button", class: "rival-name", "data-run": index }, name(data.runs[index]));
    title.addEventListener("click", () => follow(index));
    return element("figure", {}, title, element("canvas", { id: `rival-${index}` }));
  }));
  $("strips").replaceChildren(...rivals.map((index) => {
    const label = `Film strip of the predictions for ${name(data.runs[index])}`;
    const strip = element("canvas", { id: `strip-${index}`, class: "strip", role: "img", "aria-label": label });
    makeSought(strip, (x) => stripPositions[Math.max(0, Math.min(9, Math.floor(10 * x)))]);
    return strip;
  }));
}

function makeOverview() {
  const run = data.runs[0];
  document.title = `${name(run)} · inside a diffusion model`;
  $("title").textContent = name(run);
  $("title").classList.toggle("long", run.prompt.length > 60);
  $("model").textContent = data.model;
  $("settings").textContent = `seed ${run.seed}, ${last} steps of ${data.sampler.toUpperCase()}, guidance ${number(run.guidance)}`;
  $("count").textContent = last;
  $("levels").textContent = data.levels;
  $("latent").textContent = data.latent.join(" × ");
  $("pixels").textContent = data.size.join(" × ");
  show($("flow-noise"), run, "x_t", 0, "The noise, decoded");
  show($("flow-picture"), run, "x0", last, "The finished image");
}

function listen() {
  $("slider").max = last;
  $("slider").addEventListener("input", (event) => { play(false); goTo(Number(event.target.value)); });
  $("play").addEventListener("click", () => play(!state.timer));
  $("back").addEventListener("click", () => { play(false); goTo(state.position - 1); });
  $("next").addEventListener("click", () => { play(false); goTo(state.position + 1); });
  document.addEventListener("keydown", onKey);
  $("all-steps").addEventListener("click", () => { state.average = true; render(); });
  $("this-step").addEventListener("click", () => { state.average = false; render(); });
  document.querySelectorAll(".scrub").forEach(makeScrubbed);
  makeSought($("curve"), nearestStep);
  makeSought($("influence"), (x) => x * (last - 1));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const label = () => {
    $("theme").textContent = isDark() ? "Light" : "Dark";
    $("theme").setAttribute("aria-label", `${$("theme").textContent} colours`);
  };
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    label();
    render();
  });
  dark.addEventListener("change", () => { label(); render(); });
  label();
}

async function start() {
  await Promise.all(data.runs.map(loadRun));
  $("back").replaceChildren(icon("M15 5 8 12l7 7z"));
  $("next").replaceChildren(icon("M9 5l7 7-7 7z"));
  makeOverview();
  makeGallery($("guidances"), data.guidances, (run) => `g = ${number(run.guidance)}`);
  makeGallery($("seed-runs"), data.seeds, (run) => `seed ${run.seed}`);
  makeRivals();
  listen();
  play(false);
  follow(0);
}

start();
