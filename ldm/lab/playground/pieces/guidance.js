"use strict";
// Guidance: from the estimate without the prompt through the one with it, and beyond. One evaluation, any g.

PIECES.guidance = (piece, { latent, alphaBar, guidance }, model) => {
  const [uncond, cond, guided] = [TELL.uncond, TELL.cond, TELL.guided(guidance.g[2])].map((words) => piece.image(words));
  const g = piece.slider("g", TELL.guidance, { min: 0, max: 12, step: 0.5, value: guidance.g[2] }, changed);
  const t = piece.slider("t", TELL.t, { min: 0, max: alphaBar.length - 1, value: guidance.t }, evaluated);
  const prompt = piece.field("prompt", TELL.prompt, guidance.prompt, evaluated);
  const frames = sprites(guidance.x0), x0 = floats(latent), eps = new TorchGenerator(0).randn(x0.length);
  let live = false, both = null, complain = null;
  prompt.readOnly = t.disabled = true;

  async function replay() {
    const pictures = await frames, { place, value } = nearest(guidance.g, +g.value);
    uncond(pictures[guidance.g.indexOf(0)]);
    cond(pictures[guidance.g.indexOf(1)]);
    guided(pictures[place], TELL.guided(plain(value, 1)));
  }

  function changed() {
    return live ? extrapolate(+g.value) : replay();
  }

  function evaluated() {
    if (live) evaluate(+t.value, prompt.value);
  }

  const decoded = async (x) => canvasOf(await model.ask("decode", { latent: x }));
  const careful = (act) => newest((...given) => act(...given).catch((error) => complain(error)));

  const extrapolate = careful(async (scale) => {
    if (both) guided(await decoded(guide(both.uncond, both.cond, scale, 0)), TELL.guided(plain(scale, 1)));
  });

  const evaluate = careful(async (time, text) => {
    both = await model.ask("estimate", { x: addNoise(x0, eps, vpLevel(time, alphaBar)), t: time, prompt: text });
    uncond(await decoded(both.uncond));
    cond(await decoded(both.cond));
    await extrapolate(+g.value);
  });

  replay();
  return {
    ready(failed) {
      [live, complain, prompt.readOnly, t.disabled] = [true, failed, false, false];
      return evaluate(+t.value, prompt.value);
    },
  };
};
