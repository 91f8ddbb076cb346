"use strict";
// One evaluation of the U-Net: where does it think that a noisy latent comes from? And what does the prompt change?

const floats = (base64) => new Float32Array(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer);

// The nearest of the recorded values, and its place.
function nearest(values, wanted) {
  const place = values.reduce((best, value, i) => (Math.abs(value - wanted) < Math.abs(values[best] - wanted) ? i : best), 0);
  return { place, value: values[place] };
}

const sprites = ({ image, count, size, columns }) => readSprite(image, count, size, columns);

PIECES.estimate = (piece, { card, latent, alphaBar, estimate }, model) => {
  const [clean, noisy, guess] = [TELL.clean, TELL.latent, TELL.guess].map((words) => piece.image(words));
  const changed = () => (live ? compute(+t.value, prompt.value, seed) : replay());
  const t = piece.slider("t", TELL.t, { min: 0, max: alphaBar.length - 1, value: estimate.t[8] }, changed);
  const prompt = piece.field("prompt", TELL.prompt, estimate.prompt, changed), x0 = floats(latent);
  const other = piece.action(TELL.other, () => { seed += 1; changed(); });
  const frames = Promise.all([sprites(estimate.x), sprites(estimate.x0)]);
  let live = false, seed = 0, complain = null;
  prompt.readOnly = other.disabled = true;

  async function replay() {
    const [x, estimates] = await frames, { place, value } = nearest(estimate.t, +t.value);
    noisy(x[place], `${TELL.latent}, t = ${value}`);
    guess(estimates[place]);
  }

  const compute = newest(async (time, text, noise) => {
    try {
      const x = addNoise(x0, new TorchGenerator(noise).randn(x0.length), vpLevel(time, alphaBar));
      const { cond } = await model.ask("estimate", { x, t: time, prompt: text });
      noisy(canvasOf(await model.ask("decode", { latent: x })), `${TELL.latent}, t = ${time}`);
      guess(canvasOf(await model.ask("decode", { latent: cond })));
    } catch (error) {
      complain(error);
    }
  });

  readSprite(card, 1, [128, 128], 1).then(([picture]) => clean(picture));
  replay();
  return {
    ready(failed) {
      [live, complain, prompt.readOnly, other.disabled] = [true, failed, false, false];
      return changed();
    },
  };
};
