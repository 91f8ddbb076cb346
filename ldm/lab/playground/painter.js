"use strict";
// The worker: it opens the three networks and generates images, while the page stays responsive.
//
// It is one script with tokenizer.js, noise.js, sampling.js and onnxruntime-web before this file, so it needs nothing
// from elsewhere. The page talks to it in messages; each has a `type`, and below is one function for each.

class Painter {
  constructor(settings, networks) {
    Object.assign(this, { settings, networks, tokenizer: new Tokenizer(settings.tokenizer) });
  }

  // Step 1: the prompt becomes vectors. The empty prompt comes first, as guidance wants it.
  async encode(prompt) {
    const { contextLength } = this.settings.tokenizer;
    const rows = [...this.tokenizer.encode(""), ...this.tokenizer.encode(prompt)];
    const input = new ort.Tensor("int64", BigInt64Array.from(rows, BigInt), [2, contextLength]);
    const { context } = await this.networks.text.run({ ids: input });
    return context;
  }

  // Steps 2 and 3: noise, and its removal. Yields what happened at each step.
  async *generate({ prompt, seed, steps, guidance, sampler: name }) {
    const { alphaBar, latent } = this.settings, sampler = SAMPLERS[name], count = latent[0] * latent[1] * latent[2];
    const context = await this.encode(prompt), generator = new TorchGenerator(seed);
    const draw = () => generator.randn(count);
    const levels = samplerLevels(sampler, steps, alphaBar);
    const denoise = (x, level) => this.denoise(x, level, context, guidance);
    yield* sample(sampler, denoise, initialLatents(sampler, draw(), levels), levels, draw);
  }

  // One evaluation of the U-Net, with and without the prompt in one batch; without guidance only with it.
  async denoise(x, level, context, guidance) {
    const { latent, prediction, guidanceRescale } = this.settings, [, tokens, width] = context.dims;
    const batch = guidance === 1 ? 1 : 2, half = context.data.length / 2;
    const both = new Float32Array(batch * x.length);
    for (let i = 0; i < batch; i++) both.set(x, i * x.length);
    const { out, attention } = await this.networks.unet.run({
      x: new ort.Tensor("float32", both, [batch, ...latent]),
      t: new ort.Tensor("float32", new Float32Array(batch).fill(level.t), [batch]),
      context: batch === 2 ? context : new ort.Tensor("float32", context.data.slice(half), [1, tokens, width]),
    });
    const [uncond, cond] = [out.data.slice(0, x.length), out.data.slice(-x.length)];
    const guided = batch === 1 ? cond : guide(uncond, cond, guidance, guidanceRescale);
    const maps = attention.data.slice(-attention.data.length / batch); // where the image read the prompt
    return { ...x0AndEps(prediction, guided, x, level), maps };
  }

  // Step 4: a latent becomes pixels, as a canvas takes them: four bytes each.
  async decode(latent) {
    const input = new ort.Tensor("float32", latent, [1, ...this.settings.latent]);
    const { pixels } = await this.networks.decoder.run({ latent: input });
    const [, , height, width] = pixels.dims, area = height * width;
    const bytes = new Uint8ClampedArray(4 * area).fill(255);
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) bytes[4 * i + c] = (pixels.data[c * area + i] + 1) * 127.5;
    }
    return { width, height, bytes };
  }
}

// --- opening ---------------------------------------------------------------------------------------------------

// A file by its address, packed with gzip; `report` hears of every few bytes that arrive.
async function fetched(url, report) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  const counted = new TransformStream({
    transform(chunk, out) { report(chunk.length); out.enqueue(chunk); },
  });
  return response.body.pipeThrough(counted);
}

async function bytesOf(stream, packed) {
  const plain = packed ? stream.pipeThrough(new DecompressionStream("gzip")) : stream;
  return new Uint8Array(await new Response(plain).arrayBuffer());
}

function fromBase64(text) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

// Each network's weights.
const WEIGHTS = { text: "text.safetensors", unet: "unet.safetensors", decoder: "vae.safetensors" };

async function openNetworks(files, glue, threads) {
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = files.get("runtime.wasm");
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })) };
  const networks = {};
  for (const [name, weights] of Object.entries(WEIGHTS)) {
    const externalData = [{ path: weights, data: files.get(weights) }];
    const options = { executionProviders: ["wasm"], externalData };
    networks[name] = await ort.InferenceSession.create(files.get(`${name}.onnx`), options);
  }
  return networks;
}

// --- messages ---------------------------------------------------------------------------------------------------

let painter = null;
const received = new Map(); // file name -> the pieces that the page has sent
let run = 0, stopped = false; // the number of the newest run; any other one ends at its next step, as does a stopped one

const tell = (type, message = {}, transfer = []) => postMessage({ type, ...message }, transfer);
const failed = (error) => tell("error", { text: String(error.message ?? error) });
const breathe = () => new Promise((done) => setTimeout(done)); // so that a message can come in between two steps

const messages = {
  // A piece of a file that the page read (from file://, a worker cannot), as text.
  piece({ name, base64 }) {
    received.set(name, [...(received.get(name) ?? []), fromBase64(base64)]);
  },

  async open({ settings, files, glue, threads }) {
    const loaded = new Map();
    for (const { name, url, packed } of files) {
      const report = (bytes) => tell("progress", { bytes });
      const stream = url ? await fetched(url, report) : new Blob(received.get(name)).stream();
      loaded.set(name, await bytesOf(stream, packed));
      received.delete(name);
    }
    painter = new Painter(settings, await openNetworks(loaded, glue, threads));
    tell("ready", { threads });
  },

  async paint({ id, options }) {
    if (run !== id || stopped) return; // it ended before it began
    const started = performance.now();
    const words = painter.tokenizer.positions(options.prompt);
    tell("begin", { id, words });
    let index = 0, latent = null;
    for await (const { level, x, x0, xPrev, maps } of painter.generate(options)) {
      if (run !== id || stopped) return;
      latent = xPrev;
      tell("step", { id, index: index++, t: level.t, x, x0, maps, seconds: (performance.now() - started) / 1000 });
      // Decoding takes as long as a step. So while it paints, every other prediction is shown.
      if (index % 2 === 0 && index < options.steps) {
        tell("pixels", { id, key: `x0 ${index - 1}`, ...(await painter.decode(x0)) });
      }
      await breathe();
    }
    if (!latent.every(Number.isFinite)) throw new Error("the numbers overflowed: try less guidance");
    const pixels = await painter.decode(latent);
    if (run === id && !stopped) tell("done", { id, latent, ...pixels, seconds: (performance.now() - started) / 1000 });
  },

  // A step of the newest run; of an older one nobody wants to see it any more.
  async decode({ id, key, latent }) {
    if (run === id) tell("pixels", { id, key, ...(await painter.decode(latent)) });
  },
};

// One message after the other. But a new run, or `stop`, ends the current one at once.
let queue = Promise.resolve();
onmessage = ({ data }) => {
  if (data.type === "paint") [run, stopped] = [data.id, false];
  if (data.type === "stop") stopped = true;
  else queue = queue.then(() => messages[data.type](data)).catch(failed);
};
