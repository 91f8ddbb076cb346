"use strict";
// A playground: a prompt, a few controls, and the image at each step of its making.
//
// `state` says everything there is to know; a control or a message from the worker changes it, and `render` draws it.
// A run is what was painted last, or a recorded one: its words, and its steps, each with its frames and its maps.

const PAUSE = 400, BEAT = 140; // milliseconds: after the last change, and between two steps that are played

function mount(root) {
  const model = theModel(), settings = model.settings, prompt = root.dataset.prompt ?? SAY.examples[0];
  const state = {
    phase: model.phase, // or painting
    message: "",
    run: null, position: 0, view: "x0", word: null, // what is shown: which run, step, frame, and word's map
    wanted: false, id: 0, timer: 0, // wanted: paint as soon as the model is there
  };
  const ui = build(root, settings, prompt);
  root.classList.toggle("recorded-only", !settings);

  // --- what the worker says ---

  const hear = {
    progress() {
      if (model.phase === "loading") Object.assign(state, { phase: "loading", message: progressOf(model) });
    },
    ready() {
      Object.assign(state, { phase: "ready", message: SAY.ready });
      if (state.wanted) paint();
    },
    unloaded() {
      Object.assign(state, { phase: "idle", message: SAY.stopped });
    },
    begin({ id, words }) {
      const chosen = state.run?.words[state.word], texts = words.map(({ text }) => text);
      state.word = texts.includes(chosen) ? texts.indexOf(chosen) : null;
      state.position = 0;
      const shape = settings.latent.slice(1);
      state.run = { id, options: state.options, words: texts, places: words, shape, steps: [], frames: {}, asked: {} };
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
      Object.assign(state, { phase: "ready", position: n, message: SAY.done(n, fixed(seconds)) });
      run.finished = true;
      root.dispatchEvent(new CustomEvent("painted", { detail: { seconds, latent: pixels.latent }, bubbles: true }));
    },
    error({ text }) {
      state.phase = model.phase;
      state.message = `${SAY.error} ${text}`;
    },
  };

  function heard(data) {
    const current = data.type === "pixels" ? state.run?.id : state.id;
    if (data.id && data.id !== current) return; // of a run that was stopped
    hear[data.type](data);
    render();
  }

  // --- what the reader does ---

  function load() {
    state.wanted = true;
    model.load();
  }

  function paint() {
    clearTimeout(state.timer);
    pause();
    state.id = ++model.count;
    state.wanted = false;
    state.options = options();
    Object.assign(state, { phase: "painting", message: SAY.painting(0, state.options.steps) });
    model.worker.postMessage({ type: "paint", id: state.id, options: state.options });
    render();
  }

  function stop() {
    state.id = ++model.count; // what a stopped run still says is not heard
    model.worker?.postMessage({ type: "stop" });
    Object.assign(state, { phase: "ready", message: SAY.stopped });
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
    if (model.phase === "ready") state.timer = setTimeout(paint, PAUSE);
  }

  ui.form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (settings) ({ idle: load, loading: () => model.stop(), ready: paint, painting: stop })[state.phase]();
  });
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape") ({ loading: () => model.stop(), painting: stop })[state.phase]?.();
  });
  for (const control of [ui.prompt, ui.guidance, ui.seed, ui.steps, ui.sampler]) control.addEventListener("input", changed);
  ui.dice.addEventListener("click", () => { ui.seed.value = Math.floor(Math.random() * 1e6); changed(); });
  for (const example of ui.examples) {
    example.addEventListener("click", () => { ui.prompt.value = example.textContent; changed(); });
  }
  ui.slider.addEventListener("input", () => { pause(); state.position = +ui.slider.value; render(); });
  ui.play.addEventListener("click", () => (state.playing ? pause() : play()));
  ui.views.forEach((radio) => radio.addEventListener("change", () => { state.view = radio.value; render(); }));

  // --- what is drawn ---

  // The frame of a step, if it is there; a missing one is decoded. Position n is the finished image.
  function frame(position, view) {
    const { run } = state, n = run.steps.length;
    if (position >= n && run.frames.last) return run.frames.last;
    const index = Math.min(position, n - 1), key = `${view} ${index}`;
    const idle = state.phase === "ready" && run.steps[index]?.[view];
    if (!run.frames[key] && idle && !run.asked[key]) {
      run.asked[key] = true;
      model.worker.postMessage({ type: "decode", id: run.id, key, latent: run.steps[index][view] });
    }
    return run.frames[key] ?? null;
  }

  // Where a word was read: at one step, or, for the finished image, the mean of all.
  function heat(word) {
    const { run, position } = state, [h, w] = run.shape;
    const place = run.places[word], n = run.steps.length;
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
    const { map, width, height } = heat(word);
    show(ui.heat, canvasOf({ width, height, bytes: glow(map) }));
  }

  function show(canvas, picture) {
    if (!picture || canvas.picture === picture) return;
    Object.assign(canvas, { width: picture.width, height: picture.height, picture });
    canvas.getContext("2d").drawImage(picture, 0, 0);
  }

  function clear(canvas) {
    Object.assign(canvas, { width: 1, height: 1, picture: null });
  }

  // As many small pictures as there are steps, but at most STRIP; the one nearest to the position is marked.
  function renderStrip() {
    const { run, position, view } = state, last = run.options.steps - 1, shown = Math.min(STRIP, last + 1);
    const spacing = last / Math.max(1, shown - 1), nearest = Math.round(Math.min(position, last) / (spacing || 1));
    ui.strip.forEach((canvas, i) => {
      const at = Math.round(i * spacing), there = at < run.steps.length;
      canvas.hidden = i >= shown;
      const picture = there && !canvas.hidden ? frame(at, view) : null;
      if (picture) show(canvas, picture);
      else clear(canvas); // of what an earlier run has left there
      canvas.classList.toggle("later", !picture);
      canvas.classList.toggle("now", i === nearest);
      canvas.onclick = () => { if (there) { pause(); state.position = at; render(); } };
    });
  }

  function renderRun() {
    const { run, position, view, word } = state, n = run.steps.length;
    show(ui.image, frame(position, view));
    ui.picture.classList.toggle("read", word !== null);
    if (word !== null) drawHeat(word);
    ui.slider.max = run.finished ? n : Math.max(0, n - 1);
    ui.slider.value = position;
    ui.play.disabled = !run.finished;
    ui.image.setAttribute("aria-label", `${SAY.views[view]}: ${run.options.prompt}`);
    const { t } = run.steps[Math.min(position, n - 1)];
    ui.where.textContent = SAY.position(position, run.finished ? n : run.options.steps, Math.round(t));
    renderStrip();
    const words = run.words.join(" ");
    if (ui.words.dataset.words !== words) {
      ui.words.dataset.words = words;
      ui.words.replaceChildren(...run.words.map((text, i) => element("button", { type: "button", onclick: () => {
        state.word = state.word === i ? null : i;
        render();
      } }, text)));
    }
    [...ui.words.children].forEach((button, i) => button.setAttribute("aria-pressed", i === word));
    const when = position >= n ? SAY.all : SAY.at(position + 1);
    ui.caption.textContent = word === null ? SAY.words : `${SAY.word(run.words[word])}, ${when}.`;
    const { prompt: text, seed, steps, guidance, sampler } = run.options;
    const quoted = `'${text.replaceAll("'", "'\\''")}'${/[()[\]]/.test(text) ? " --no-weighting" : ""}`;
    const chosen = `--seed ${seed} --steps ${steps} --guidance ${guidance} --sampler ${sampler}`;
    ui.command.textContent = `ldm generate ${quoted} ${chosen}`;
  }

  function render() {
    const { phase, run } = state;
    ui.guidanceValue.textContent = fixed(+ui.guidance.value);
    ui.stepsValue.textContent = ui.steps.value;
    ui.go.textContent = { idle: SAY.load(megabytes(model.size)), loading: SAY.stop, ready: SAY.paint, painting: SAY.stop }[phase];
    ui.status.textContent = state.message || (settings ? SAY.idle : SAY.none);
    ui.progress.hidden = phase !== "loading";
    ui.progress.value = model.size ? model.loaded / model.size : 0;
    root.dataset.phase = phase;
    root.classList.toggle("empty", !run?.steps.length);
    if (run?.steps.length) renderRun();
  }

  model.hearers.add(heard);
  render();
  root.playground = { state };
  if (PLAYGROUND.recorded) readRecorded(PLAYGROUND.recorded).then((run) => {
    if (state.run) return;
    Object.assign(state, { run, position: run.steps.length });
    if (state.phase === "idle") state.message = `${SAY.recorded} ${settings ? SAY.idle : SAY.none}`;
    render();
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) whenSeen(root, () => state.run === run && play());
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

function progressOf(model) {
  if (model.loaded >= 0.999 * model.size) return SAY.opening;
  return SAY.loading(megabytes(Math.min(model.loaded, model.size)), megabytes(model.size));
}

function start() {
  document.querySelectorAll(".playground").forEach(mount);
  document.querySelectorAll(".piece").forEach(mountPiece);
}
if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
else start();
