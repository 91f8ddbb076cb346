"use strict";
// Noise levels and two samplers: ldm/diffusion/{level,spacing,predict,guidance,sample}.py and
// ldm/diffusion/samplers/{euler,euler_ancestral,dpmpp_2m}.py in JavaScript. Names are the same; latents are
// Float32Arrays. What these functions compute is explained there; tests hold both equal.

// --- levels: { t, alpha, sigma } -------------------------------------------------------------------------------

const CLEAN = { t: 0, alpha: 1, sigma: 0 };
const LARGEST_SIGMA = 4096;

function vpLevel(t, alphaBar) {
  return { t, alpha: Math.fround(Math.sqrt(alphaBar[t])), sigma: Math.fround(Math.sqrt(Math.fround(1 - alphaBar[t]))) };
}

function vpLevelOf(t, veSigma) {
  const alpha = 1 / Math.hypot(1, veSigma);
  return { t, alpha, sigma: veSigma * alpha };
}

const halfLogSnr = (level) => Math.log(level.alpha / level.sigma);

// --- spacings: (number of steps, length of the schedule) -> timesteps, noisiest first ---------------------------

// Python rounds halves to the even neighbour.
const rounded = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
const range = (count) => [...Array(count).keys()];

const linspace = (count, total) => range(count).map((i) => total - 1 - (i && i * ((total - 1) / (count - 1))));
const linspaceWithout0 = (count, total) => range(count).map((i) => rounded((count - i) * ((total - 1) / count)));
const trailing = (count, total) => range(count).map((i) => rounded(total - (i * total) / count) - 1);

// Whole timesteps have the schedule's own level. Between them, and wherever a spacing is fractional, sigma / alpha is
// interpolated.
function spacedLevels(times, alphaBar, whole) {
  if (whole) return times.map((t) => vpLevel(t, alphaBar));
  const table = alphaBar.map((a) => Math.max(a, 1 / (1 + LARGEST_SIGMA ** 2))).map((a) => Math.sqrt((1 - a) / a));
  return times.map((t) => {
    const low = Math.min(Math.floor(t), table.length - 2);
    return vpLevelOf(t, table[low] + (t - low) * (table[low + 1] - table[low]));
  });
}

function samplerLevels(sampler, steps, alphaBar) {
  const total = alphaBar.length, pureNoise = alphaBar[total - 1] === 0;
  const spacing = pureNoise ? trailing : sampler.spacing;
  return [...spacedLevels(spacing(steps, total), alphaBar, spacing !== linspace), CLEAN];
}

// --- the network's output, read as estimates ---------------------------------------------------------------------

// classifier_free_guidance, and rescale_guidance if phi is not 0.
function guide(uncond, cond, scale, phi) {
  const guided = uncond.map((u, i) => u + scale * (cond[i] - u));
  if (!phi) return guided;
  const factor = phi * (deviation(cond) / deviation(guided)) + (1 - phi);
  return guided.map((v) => v * factor);
}

function deviation(x) {
  const mean = x.reduce((sum, v) => sum + v, 0) / x.length;
  return Math.sqrt(x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (x.length - 1));
}

function x0AndEps(prediction, out, x, { alpha, sigma }) {
  switch (prediction) {
    case "eps": return { x0: x.map((v, i) => (v - sigma * out[i]) / alpha), eps: out };
    case "v": return { x0: x.map((v, i) => alpha * v - sigma * out[i]), eps: x.map((v, i) => sigma * v + alpha * out[i]) };
    case "x0": return { x0: out, eps: x.map((v, i) => (v - alpha * out[i]) / sigma) };
    default: throw new Error(`prediction ${prediction}; expected eps, v or x0`);
  }
}

// --- samplers: (past evaluations, next level, levels left, draw noise) -> the latent at the next level -----------

const eulerStep = ({ x0, eps }, next) => x0.map((v, i) => next.alpha * v + next.sigma * eps[i]);

function eulerAncestral(past, next, left, draw) {
  const { x0, eps, level } = past.at(-1), z = draw();
  const down = (next.sigma * (level.alpha * next.sigma)) / (next.alpha * level.sigma);
  const up = Math.sqrt(next.sigma ** 2 - down ** 2);
  return x0.map((v, i) => next.alpha * v + down * eps[i] + up * z[i]);
}

function dpmpp2m(past, next, left) {
  const now = past.at(-1), before = past.at(-2);
  if (!before || left === 1) return eulerStep(now, next);
  const h = halfLogSnr(next) - halfLogSnr(now.level), hPrev = halfLogSnr(now.level) - halfLogSnr(before.level);
  const shrink = next.sigma / now.level.sigma, weight = next.alpha * Math.expm1(-h), slope = h / (2 * hPrev);
  return now.x0.map((v, i) => shrink * now.x[i] - weight * (v + slope * (v - before.x0[i])));
}

const SAMPLERS = {
  euler_ancestral: { label: "Euler a", spacing: linspace, unitStart: false, update: eulerAncestral },
  dpmpp_2m: { label: "DPM++ 2M", spacing: linspaceWithout0, unitStart: true, update: dpmpp2m },
};

const initialLatents = (sampler, noise, levels) => noise.map((v) => (sampler.unitStart ? v : levels[0].sigma * v));

// The loop. `denoise(x, level)` gives { x0, eps } and whatever else it wants to hand on; each step is yielded.
async function* sample(sampler, denoise, x, levels, draw) {
  let past = [];
  for (let i = 0; i + 1 < levels.length; i++) {
    const evaluation = { ...(await denoise(x, levels[i])), x, level: levels[i] };
    past = [...past.filter((e) => e.level.alpha), evaluation].slice(-2);
    x = sampler.update(past, levels[i + 1], levels.length - 1 - i, draw);
    yield { ...evaluation, xPrev: x };
  }
}
