"use strict";
// Where runs come from: a worker with the model, opened when somebody wants to paint, or a recording made in Python.

const MOST_THREADS = 4;
const ON_DISK = location.protocol === "file:";

const listedFiles = (settings) => settings?.files[ON_DISK ? "disk" : "server"] ?? [];

const addScript = (url) => new Promise((done, failed) => {
  const script = element("script", { src: url });
  script.onload = () => { script.remove(); done(); };
  script.onerror = () => failed(new Error(`${url} is missing`));
  document.head.append(script);
});

// Loads everything and sends it to a new worker. `hear` gets the worker's messages, and the progress of loading.
async function openWorker(settings, hear, signal) {
  await addScript(`${ROOT}worker.js`);
  const worker = new Worker(URL.createObjectURL(new Blob([PLAYGROUND.worker.source], { type: "text/javascript" })));
  worker.onmessage = ({ data }) => hear(data);
  signal.addEventListener("abort", () => worker.terminate());
  worker.onerror = (event) => hear({ type: "error", text: event.message });
  const listed = listedFiles(settings);
  if (ON_DISK) { // scripts may be loaded, files may not be fetched
    for (const { name, urls, size } of listed) {
      for (const url of urls) {
        await addScript(ROOT + url);
        if (signal.aborted) return null;
        worker.postMessage({ type: "piece", name, base64: PLAYGROUND.piece });
        hear({ type: "progress", bytes: size / urls.length });
      }
    }
    delete PLAYGROUND.piece;
  }
  const files = listed.map(({ name, urls, packed }) => ({ name, packed, url: ON_DISK ? null : ROOT + urls[0] }));
  const threads = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
  worker.postMessage({ type: "open", settings, files, glue: PLAYGROUND.worker.glue, threads });
  return worker;
}

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
