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

  async denoise(x, level, context, guidance) {
    const { prediction, guidanceRescale } = this.settings;
    const { uncond, cond, maps } = await this.evaluate(x, level, context, guidance !== 1);
    const guided = guidance === 1 ? cond : guide(uncond, cond, guidance, guidanceRescale);
    return { ...x0AndEps(prediction, guided, x, level), maps };
  }

  // One evaluation of the U-Net: with the prompt alone, or with and without it in one batch.
  async evaluate(x, level, context, both) {
    const { latent } = this.settings, [, tokens, width] = context.dims;
    const batch = both ? 2 : 1, half = context.data.length / 2;
    const copies = new Float32Array(batch * x.length);
    for (let i = 0; i < batch; i++) copies.set(x, i * x.length);
    const { out, attention } = await this.networks.unet.run({
      x: new ort.Tensor("float32", copies, [batch, ...latent]),
      t: new ort.Tensor("float32", new Float32Array(batch).fill(level.t), [batch]),
      context: batch === 2 ? context : new ort.Tensor("float32", context.data.slice(half), [1, tokens, width]),
    });
    const maps = attention.data.slice(-attention.data.length / batch); // where the image read the prompt
    return { uncond: out.data.slice(0, x.length), cond: out.data.slice(-x.length), maps };
  }

  // Where the U-Net thinks that a noisy latent comes from, with and without the prompt.
  async estimate(x, t, prompt) {
    const { alphaBar, prediction } = this.settings, level = vpLevel(t, alphaBar);
    const { uncond, cond } = await this.evaluate(x, level, await this.encode(prompt), true);
    const x0 = (out) => x0AndEps(prediction, out, x, level).x0;
    return { uncond: x0(uncond), cond: x0(cond) };
  }

  // An image, three planes of numbers in [-1, 1], becomes a latent.
  async compress(pixels) {
    const input = new ort.Tensor("float32", pixels, [1, 3, this.settings.size, this.settings.size]);
    return (await this.networks.encoder.run({ pixels: input })).latent.data;
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

function openRuntime(wasm, glue, threads) {
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })) };
}

async function openNetwork(name) {
  const path = `${name}.safetensors`;
  const options = { executionProviders: ["wasm"], externalData: [{ path, data: files.get(path) }] };
  return ort.InferenceSession.create(files.get(`${name}.onnx`), options);
}

// --- messages ---------------------------------------------------------------------------------------------------

let painter = null;
const files = new Map(); // file name -> bytes
const received = new Map(); // file name -> the pieces that the page has sent
const BETWEEN_IMAGES = 500; // milliseconds of sampling from one decoded prediction to the next
let run = 0, stopped = false; // the number of the newest run; any other one ends at its next step, as does a stopped one

const tell = (type, message = {}, transfer = []) => postMessage({ type, ...message }, transfer);
const failed = (error) => tell("error", { text: String(error.message ?? error) });
const breathe = () => new Promise((done) => setTimeout(done)); // so that a message can come in between two steps

async function unpack(listed) {
  for (const { name, url, packed } of listed) {
    const report = (bytes) => tell("progress", { bytes });
    const stream = url ? await fetched(url, report) : new Blob(received.get(name)).stream();
    files.set(name, await bytesOf(stream, packed));
    received.delete(name);
  }
}

// What a piece of the tour may ask; each gets one answer.
const questions = {
  decode: ({ latent }) => painter.decode(latent),
  estimate: ({ x, t, prompt }) => painter.estimate(x, t, prompt),
  encode: async ({ pixels }) => ({ latent: await painter.compress(pixels) }),

  async open({ network, listed }) {
    await unpack(listed);
    painter.networks[network] ??= await openNetwork(network);
    return {};
  },
};

const messages = {
  async ask({ id, what, ...question }) {
    try {
      tell("answer", { id, ...(await questions[what](question)) });
    } catch (error) {
      tell("answer", { id, error: String(error.message ?? error) });
    }
  },

  // A piece of a file that the page read (from file://, a worker cannot), as text.
  piece({ name, base64 }) {
    received.set(name, [...(received.get(name) ?? []), fromBase64(base64)]);
  },

  async open({ settings, listed, glue, threads }) {
    await unpack(listed);
    openRuntime(files.get("runtime.wasm"), glue, threads);
    painter = new Painter(settings, {});
    for (const name of ["text", "unet", "decoder"]) painter.networks[name] = await openNetwork(name);
    files.clear();
    tell("ready", { threads });
  },

  async paint({ id, options }) {
    if (run !== id || stopped) return; // it ended before it began
    const started = performance.now();
    let shown = started; // when the last image appeared
    const words = painter.tokenizer.positions(options.prompt);
    tell("begin", { id, words });
    let index = 0, latent = null;
    for await (const { level, x, x0, xPrev, maps } of painter.generate(options)) {
      if (run !== id || stopped) return;
      latent = xPrev;
      tell("step", { id, index: index++, t: level.t, x, x0, maps, seconds: (performance.now() - started) / 1000 });
      // Decoding takes as long as a step or two. So while it paints, only some predictions are shown.
      if (performance.now() - shown > BETWEEN_IMAGES && index < options.steps) {
        tell("pixels", { id, key: `x0 ${index - 1}`, ...(await painter.decode(x0)) });
        shown = performance.now();
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
