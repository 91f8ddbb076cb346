"use strict";
// The page: a prompt, a few controls, and the image at each step of its making.
//
// `state` says everything there is to know; a control or a message from the worker changes it, and `render` draws it.
// A run is what was painted last, or a recorded one: its words, and its steps, each with its frames and its maps.

(() => {
const PLAYGROUND = (window.PLAYGROUND ??= {});
const ROOT = new URL(".", document.currentScript.src).href;

const SAY = PLAYGROUND.words[document.documentElement.lang.startsWith("fr") ? "fr" : "en"];
const SAMPLERS = { euler_ancestral: "Euler a", dpmpp_2m: "DPM++ 2M" };
const MOST_THREADS = 4, STRIP = 10;
const PAUSE = 400, BEAT = 140; // milliseconds: after the last change, and between two steps that are played

const megabytes = (bytes) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function canvasOf({ width, height, bytes }) {
  const canvas = element("canvas", { width, height });
  canvas.getContext("2d").putImageData(new ImageData(bytes, width, height), 0, 0);
  return canvas;
}

const addScript = (url) => new Promise((done, failed) => {
  const script = element("script", { src: url });
  script.onload = () => { script.remove(); done(); };
  script.onerror = () => failed(new Error(`${url} is missing`));
  document.head.append(script);
});

// A run that was recorded in Python: frames cut from two sprites, and a map for each word.
async function readRecorded({ options, words, t, size: [width, height], columns, maps, ...sprites }) {
  const frames = {};
  for (const view of ["x0", "x"]) {
    const sprite = new Image();
    sprite.src = sprites[view];
    await sprite.decode();
    t.forEach((_, i) => {
      const frame = (frames[`${view} ${i}`] = element("canvas", { width, height }));
      frame.getContext("2d").drawImage(sprite, -(i % columns) * width, -Math.floor(i / columns) * height);
    });
  }
  frames.last = frames[`x0 ${t.length - 1}`];
  const grey = Uint8Array.from(atob(maps.base64), (letter) => letter.charCodeAt(0)), area = grey.length / t.length;
  const steps = t.map((each, i) => ({ t: each, maps: grey.subarray(i * area, (i + 1) * area) }));
  const places = words.map((_, i) => ({ first: i, end: i + 1 }));
  return { options, words, places, steps, frames, asked: {}, finished: true, shape: [maps.height, maps.width] };
}

// --- the worker: opened once, for whichever playground of the page asks first ------------------------------------

async function openWorker(settings, hear) {
  await addScript(`${ROOT}worker.js`);
  const worker = new Worker(URL.createObjectURL(new Blob([PLAYGROUND.worker.source], { type: "text/javascript" })));
  worker.onmessage = ({ data }) => hear(data);
  worker.onerror = (event) => hear({ type: "error", text: event.message });
  const onDisk = location.protocol === "file:", listed = settings.files[onDisk ? "disk" : "server"];
  if (onDisk) { // scripts may be loaded, files may not be fetched
    for (const { name, urls, size } of listed) {
      for (const url of urls) {
        await addScript(ROOT + url);
        worker.postMessage({ type: "piece", name, base64: PLAYGROUND.piece });
        hear({ type: "progress", bytes: size / urls.length });
      }
    }
    delete PLAYGROUND.piece;
  }
  const files = listed.map(({ name, urls, packed }) => ({ name, packed, url: onDisk ? null : ROOT + urls[0] }));
  const threads = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
  worker.postMessage({ type: "open", settings, files, glue: PLAYGROUND.worker.glue, threads });
  return worker;
}

// --- a playground ----------------------------------------------------------------------------------------------------

function mount(root) {
  const settings = PLAYGROUND.settings, prompt = root.dataset.prompt ?? SAY.examples[0];
  const state = { phase: "idle", message: "", run: null, position: 0, view: "x0", word: null, loaded: 0, worker: null, id: 0, timer: 0 };
  const ui = build(root, settings, prompt);
  const total = settings?.files[location.protocol === "file:" ? "disk" : "server"].reduce((sum, file) => sum + file.size, 0);

  // --- what the worker says ---

  const hear = {
    progress({ bytes }) {
      state.loaded += bytes;
      state.message = SAY.loading(megabytes(Math.min(state.loaded, total)), megabytes(total));
      if (state.loaded >= 0.999 * total) state.message = SAY.opening;
    },
    ready() {
      state.phase = "ready";
      paint();
    },
    begin({ id, words }) {
      state.run = { id, options: state.options, words: words.map(({ text }) => text), places: words, steps: [], frames: {}, asked: {}, shape: settings.latent.slice(1) };
      Object.assign(state, { position: 0, word: state.run.words.includes(state.word) ? state.word : null });
    },
    step({ index, ...step }) {
      state.run.steps.push(step);
      state.message = SAY.painting(index + 1, state.run.options.steps);
    },
    pixels({ key, ...pixels }) {
      state.run.frames[key] = canvasOf(pixels);
      if (state.phase === "painting") state.position = state.run.steps.length - 1;
    },
    done({ seconds, ...pixels }) {
      const { run } = state, n = run.steps.length;
      run.frames[`x0 ${n - 1}`] = run.frames.last = canvasOf(pixels);
      run.latent = pixels.latent;
      Object.assign(state, { phase: "ready", position: n, message: SAY.done(n, seconds.toFixed(1)) });
      run.finished = true;
      root.dispatchEvent(new CustomEvent("painted", { detail: { seconds, latent: pixels.latent }, bubbles: true }));
    },
    error({ text }) {
      Object.assign(state, { phase: state.worker ? "ready" : "idle", message: `${SAY.error} ${text}` });
    },
  };

  function heard(data) {
    const current = data.type === "pixels" ? state.run?.id : state.id;
    if (data.id && data.id !== current) return; // of a run that was stopped
    hear[data.type](data);
    render();
  }

  // --- what the reader does ---

  async function load() {
    Object.assign(state, { phase: "loading", loaded: 0, message: SAY.loading(0, megabytes(total)) });
    render();
    try {
      state.worker = await openWorker(settings, heard);
    } catch (error) {
      heard({ type: "error", text: error.message });
    }
  }

  function paint() {
    clearTimeout(state.timer);
    pause();
    state.id += 1;
    state.options = options();
    Object.assign(state, { phase: "painting", message: SAY.painting(0, state.options.steps) });
    state.worker.postMessage({ type: "paint", id: state.id, options: state.options });
    render();
  }

  function stop() {
    state.id += 1; // what a stopped run still says is not heard
    state.worker?.postMessage({ type: "stop" });
    Object.assign(state, { phase: "ready", message: SAY.stopped });
    if (state.run?.steps.length) state.position = state.run.steps.length - 1;
    render();
  }

  // The steps of a finished run, one after the other.
  function play() {
    if (!state.run?.finished) return;
    state.position = 0;
    state.playing = setInterval(() => {
      state.position += 1;
      if (state.position >= state.run.steps.length) pause();
      render();
    }, BEAT);
    render();
  }

  function pause() {
    clearInterval(state.playing);
    state.playing = null;
  }

  function options() {
    return {
      prompt: ui.prompt.value, seed: Math.min(2 ** 32 - 1, Math.max(0, Math.floor(+ui.seed.value || 0))),
      steps: +ui.steps.value, guidance: +ui.guidance.value, sampler: ui.sampler.value,
    };
  }

  // Once the model is there, every change paints anew.
  function changed() {
    render();
    clearTimeout(state.timer);
    if (state.worker && state.phase !== "loading") state.timer = setTimeout(paint, PAUSE);
  }

  ui.form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (state.phase === "painting") stop();
    else if (state.worker) paint();
    else if (state.phase === "idle" && settings) load();
  });
  root.addEventListener("keydown", (event) => { if (event.key === "Escape" && state.phase === "painting") stop(); });
  for (const control of [ui.prompt, ui.guidance, ui.seed, ui.steps, ui.sampler]) control.addEventListener("input", changed);
  ui.dice.addEventListener("click", () => { ui.seed.value = Math.floor(Math.random() * 1e6); changed(); });
  ui.examples.forEach((button) => button.addEventListener("click", () => { ui.prompt.value = button.textContent; changed(); }));
  ui.slider.addEventListener("input", () => { pause(); state.position = +ui.slider.value; render(); });
  ui.play.addEventListener("click", () => (state.playing ? pause() : play()));
  ui.views.forEach((radio) => radio.addEventListener("change", () => { state.view = radio.value; render(); }));

  // --- what is drawn ---

  // The frame of a step, if it is there; a missing one is decoded. Position n is the finished image.
  function frame(position, view) {
    const { run } = state, n = run.steps.length;
    if (position >= n && run.frames.last) return run.frames.last;
    const index = Math.min(position, n - 1), key = `${view} ${index}`;
    const idle = state.phase === "ready" && state.worker && run.steps[index]?.[view];
    if (!run.frames[key] && idle && !run.asked[key]) {
      run.asked[key] = true;
      state.worker.postMessage({ type: "decode", id: run.id, key, latent: run.steps[index][view] });
    }
    return run.frames[key] ?? null;
  }

  // Where a word was read: at one step, or, for the finished image, the mean of all.
  function heat(word) {
    const { run, position } = state, [h, w] = run.shape;
    const place = run.places[run.words.indexOf(word)], n = run.steps.length;
    const chosen = position >= n ? run.steps : [run.steps[position]];
    const map = new Float32Array(h * w);
    for (const { maps } of chosen) {
      for (let token = place.first; token < place.end; token++) {
        for (let i = 0; i < map.length; i++) map[i] += maps[token * map.length + i] / chosen.length;
      }
    }
    return { map, width: w, height: h };
  }

  function drawHeat(word) {
    const { map, width, height } = heat(word), low = Math.min(...map), high = Math.max(...map);
    const bytes = new Uint8ClampedArray(4 * map.length);
    map.forEach((value, i) => {
      const glow = (value - low) / (high - low || 1);
      bytes.set([255, 70 + 160 * glow ** 2, 20 + 90 * glow ** 4, 240 * glow ** 2], 4 * i);
    });
    show(ui.heat, canvasOf({ width, height, bytes }));
  }

  function show(canvas, picture) {
    if (!picture || canvas.picture === picture) return;
    Object.assign(canvas, { width: picture.width, height: picture.height, picture });
    canvas.getContext("2d").drawImage(picture, 0, 0);
  }

  function renderRun() {
    const { run, position, view, word } = state, n = run.steps.length;
    show(ui.image, frame(position, view));
    ui.picture.classList.toggle("read", Boolean(word));
    if (word) drawHeat(word);
    ui.slider.max = run.finished ? n : Math.max(0, n - 1);
    ui.slider.value = position;
    ui.play.disabled = !run.finished;
    ui.where.textContent = SAY.position(position, run.finished ? n : run.options.steps, Math.round(run.steps[Math.min(position, n - 1)]?.t ?? 0));
    ui.strip.forEach((canvas, i) => {
      const at = Math.round((i * (run.options.steps - 1)) / (ui.strip.length - 1));
      canvas.hidden = i >= run.options.steps;
      if (at < n) show(canvas, frame(at, view));
      canvas.classList.toggle("later", at >= n);
      canvas.classList.toggle("now", Math.abs(at - Math.min(position, n - 1)) <= (run.options.steps - 1) / (ui.strip.length - 1) / 2);
      canvas.onclick = () => { pause(); state.position = Math.min(at, n - 1); render(); };
    });
    const words = run.words.join(" ");
    if (ui.words.dataset.words !== words) {
      ui.words.dataset.words = words;
      ui.words.replaceChildren(...run.words.map((text) => element("button", { type: "button", onclick: () => {
        state.word = state.word === text ? null : text;
        render();
      } }, text)));
    }
    [...ui.words.children].forEach((button, i) => button.setAttribute("aria-pressed", run.words[i] === word));
    ui.caption.textContent = word ? `${SAY.word(word)}, ${position >= n ? SAY.all : SAY.at(position + 1)}.` : SAY.words;
    const { prompt: text, seed, steps, guidance, sampler } = run.options;
    ui.command.textContent = `ldm generate ${JSON.stringify(text)} --seed ${seed} --steps ${steps} --guidance ${guidance} --sampler ${sampler}`;
  }

  function render() {
    const { phase, run } = state;
    ui.guidanceValue.textContent = (+ui.guidance.value).toFixed(1);
    ui.stepsValue.textContent = ui.steps.value;
    ui.go.textContent = { idle: settings ? SAY.load(megabytes(total)) : SAY.paint, loading: SAY.paint, ready: SAY.paint, painting: SAY.stop }[phase];
    ui.go.disabled = phase === "loading" || !settings;
    ui.status.textContent = state.message || (settings ? SAY.idle : SAY.none);
    ui.progress.hidden = phase !== "loading";
    ui.progress.value = total ? state.loaded / total : 0;
    root.dataset.phase = phase;
    root.classList.toggle("empty", !run?.steps.length);
    if (run?.steps.length) renderRun();
  }

  render();
  root.playground = { state };
  if (PLAYGROUND.recorded) readRecorded(PLAYGROUND.recorded).then((run) => {
    if (state.run) return;
    Object.assign(state, { run, position: run.steps.length, message: `${SAY.recorded} ${settings ? SAY.idle : SAY.none}` });
    render();
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) whenSeen(root, play);
  });
}

function whenSeen(root, act) {
  const observer = new IntersectionObserver(([{ isIntersecting }]) => {
    if (!isIntersecting) return;
    observer.disconnect();
    act();
  }, { threshold: 0.5 });
  observer.observe(root);
}

// The controls, in the order in which one tabs through them.
function build(root, settings, prompt) {
  const ui = {};
  const id = `playground-${document.querySelectorAll(".playground[data-phase]").length}`;
  const slider = (name, min, max, step, value) => {
    ui[name] = element("input", { type: "range", id: `${id}-${name}`, min, max, step, value });
    ui[`${name}Value`] = element("output", { for: `${id}-${name}` });
    return element("div", { class: "control" }, element("label", { for: `${id}-${name}` }, SAY[name]), ui[`${name}Value`], ui[name]);
  };
  ui.prompt = element("input", { type: "text", id: `${id}-prompt`, value: prompt, maxlength: 300, autocomplete: "off", spellcheck: "false", enterkeyhint: "go" });
  ui.go = element("button", { type: "submit", class: "go" });
  ui.examples = SAY.examples.map((text) => element("button", { type: "button" }, text));
  ui.form = element("form", {},
    element("label", { for: `${id}-prompt`, class: "hidden-label" }, SAY.prompt),
    element("div", { class: "ask" }, ui.prompt, ui.go),
    element("div", { class: "examples" }, ...ui.examples));
  ui.image = element("canvas", { width: settings?.size ?? 128, height: settings?.size ?? 128, role: "img", "aria-label": SAY.views.x0 });
  ui.heat = element("canvas", { class: "heat", "aria-hidden": "true" });
  ui.picture = element("div", { class: "picture" }, ui.image, ui.heat);
  ui.strip = Array.from({ length: STRIP }, () => element("canvas", { width: 1, height: 1 }));
  ui.slider = element("input", { type: "range", min: 0, max: 0, step: 1, value: 0, "aria-label": SAY.step });
  ui.play = element("button", { type: "button", class: "play", "aria-label": SAY.play, title: SAY.play }, "▶");
  ui.where = element("output", {});
  ui.words = element("div", { class: "words", role: "group", "aria-label": SAY.words });
  ui.caption = element("p", { class: "caption" }, SAY.words);
  ui.views = ["x0", "x"].map((view) => element("input", { type: "radio", name: `${id}-view`, value: view, checked: view === "x0" }));
  const views = element("fieldset", { class: "views" }, element("legend", { class: "hidden-label" }, SAY.view),
    ...ui.views.map((radio) => element("label", {}, radio, element("span", {}, SAY.views[radio.value]))));
  ui.seed = element("input", { type: "number", id: `${id}-seed`, min: 0, max: 2 ** 32 - 1, step: 1, value: 42, inputmode: "numeric" });
  ui.dice = element("button", { type: "button", class: "dice", "aria-label": SAY.dice, title: SAY.dice }, "⚄");
  ui.sampler = element("select", { id: `${id}-sampler` }, ...Object.entries(SAMPLERS).map(([name, label]) =>
    element("option", { value: name, selected: name === settings?.sampler }, label)));
  ui.status = element("p", { class: "status", role: "status" });
  ui.progress = element("progress", { max: 1, value: 0, hidden: true });
  ui.command = element("code", {});
  root.replaceChildren(
    ui.form,
    element("div", { class: "stage" },
      element("div", { class: "left" }, ui.picture,
        element("div", { class: "strip", "aria-hidden": "true" }, ...ui.strip),
        element("div", { class: "time" }, ui.play, ui.slider), element("div", { class: "under" }, ui.where, views)),
      element("div", { class: "right" }, ui.words, ui.caption,
        slider("guidance", 0, 12, 0.5, settings?.guidance ?? 4),
        slider("steps", 1, 40, 1, settings?.steps ?? 20),
        element("div", { class: "pair" },
          element("div", { class: "control" }, element("label", { for: `${id}-seed` }, SAY.seed), element("span", { class: "seed" }, ui.seed, ui.dice)),
          element("div", { class: "control" }, element("label", { for: `${id}-sampler` }, SAY.sampler), ui.sampler)),
        ui.status, ui.progress,
        element("p", { class: "again" }, `${SAY.again} `, ui.command))));
  return ui;
}

const start = () => document.querySelectorAll(".playground").forEach(mount);
if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
else start();
})();
