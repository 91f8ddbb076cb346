"use strict";
// The model of a page, in a worker: opened when somebody first asks for it, and shared by everything on the page.

const MOST_THREADS = 4;
const ON_DISK = location.protocol === "file:";
const PLACE = ON_DISK ? "disk" : "server";

const sizeOf = (listed) => listed.reduce((sum, file) => sum + file.size, 0);

const addScript = (url) => new Promise((done, failed) => {
  const script = element("script", { src: url });
  script.onload = () => { script.remove(); done(); };
  script.onerror = () => failed(new Error(`${url} is missing`));
  document.head.append(script);
});

class Model {
  constructor(settings) {
    Object.assign(this, { settings, phase: "idle", loaded: 0, worker: null, count: 0 }); // or loading, ready
    Object.assign(this, { hearers: new Set(), asked: new Map(), opened: new Map() });
    this.listed = settings?.files[PLACE] ?? [];
    this.size = sizeOf(this.listed);
  }

  // What the worker says, and what becomes of loading, is told to all that want to hear it.
  hear(data) {
    if (data.type === "answer") return this.answer(data);
    if (data.type === "progress") this.loaded += data.bytes;
    if (data.type === "ready") this.phase = "ready";
    if (data.type === "error" && this.phase === "loading") this.forget();
    for (const hearer of this.hearers) hearer(data);
  }

  async load() {
    if (this.phase !== "idle") return;
    Object.assign(this, { phase: "loading", loaded: 0, loading: new AbortController() });
    this.hear({ type: "progress", bytes: 0 });
    const { signal } = this.loading, hear = (data) => signal.aborted || this.hear(data);
    try {
      await addScript(`${ROOT}worker.js`);
      const source = new Blob([PLAYGROUND.worker.source], { type: "text/javascript" });
      const worker = (this.worker = new Worker(URL.createObjectURL(source)));
      worker.onmessage = ({ data }) => hear(data);
      worker.onerror = (event) => hear({ type: "error", text: event.message });
      signal.addEventListener("abort", () => worker.terminate());
      const listed = await this.hand(this.listed, signal);
      const threads = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
      worker.postMessage({ type: "open", settings: this.settings, listed, glue: PLAYGROUND.worker.glue, threads });
    } catch (error) {
      hear({ type: "error", text: error.message });
    }
  }

  // Hands files to the worker; returns what it has to know of them. From a disk, scripts may be loaded, but no file may
  // be fetched: so each piece of a file is a script, whose text is sent on.
  async hand(listed, signal) {
    if (ON_DISK) {
      for (const { name, urls, size } of listed) {
        for (const url of urls) {
          await addScript(ROOT + url);
          if (signal.aborted) return [];
          this.worker.postMessage({ type: "piece", name, base64: PLAYGROUND.piece });
          this.hear({ type: "progress", bytes: size / urls.length });
        }
      }
      delete PLAYGROUND.piece;
    }
    return listed.map(({ name, urls, packed }) => ({ name, packed, url: ON_DISK ? null : ROOT + urls[0] }));
  }

  // Another network, which is loaded once.
  open(network) {
    if (!this.opened.has(network)) {
      const opening = this.hand(this.later(network), this.loading.signal).then((listed) => this.ask("open", { network, listed }));
      this.opened.set(network, opening);
    }
    return this.opened.get(network);
  }

  later(network) {
    return this.settings?.later[network][PLACE] ?? [];
  }

  // Back to where nothing is loaded.
  stop() {
    this.forget();
    this.hear({ type: "unloaded" });
  }

  forget() {
    this.loading.abort();
    Object.assign(this, { phase: "idle", worker: null });
    this.opened.clear();
  }

  // One question, one answer. Rejects with what the worker complained of.
  ask(what, question) {
    this.count += 1;
    this.worker.postMessage({ type: "ask", id: this.count, what, ...question });
    return new Promise((done, failed) => this.asked.set(this.count, { done, failed }));
  }

  answer({ id, error, ...found }) {
    const { done, failed } = this.asked.get(id);
    this.asked.delete(id);
    if (error) failed(new Error(error));
    else done(found);
  }
}

const theModel = () => (PLAYGROUND.model ??= new Model(PLAYGROUND.settings));

// A run that was recorded in Python: frames cut from two sprites, and a map for each word.
async function readRecorded({ options, words, t, size: [width, height], columns, maps, ...sprites }) {
  const frames = {};
  for (const view of ["x0", "x"]) {
    const cut = await readSprite(sprites[view], t.length, [width, height], columns);
    cut.forEach((frame, i) => { frames[`${view} ${i}`] = frame; });
  }
  frames.last = frames[`x0 ${t.length - 1}`];
  const grey = Uint8Array.from(atob(maps.base64), (letter) => letter.charCodeAt(0)), area = grey.length / t.length;
  const steps = t.map((each, i) => ({ t: each, maps: grey.subarray(i * area, (i + 1) * area) }));
  const places = words.map((_, i) => ({ first: i, end: i + 1 }));
  return { options, words, places, steps, frames, asked: {}, finished: true, shape: [maps.height, maps.width] };
}

// The images that one image holds, in rows.
async function readSprite(source, count, [width, height], columns) {
  const sprite = await loadImage(source);
  return Array.from({ length: count }, (_, i) => {
    const frame = element("canvas", { width, height });
    frame.getContext("2d").drawImage(sprite, -(i % columns) * width, -Math.floor(i / columns) * height);
    return frame;
  });
}
