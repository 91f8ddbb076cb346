"use strict";
// The forward process, on pixels: x_t = alpha x0 + sigma eps, as `add_noise` of ldm/diffusion/schedule.py.

// An image's pixels as three planes of numbers in [-1, 1].
function planesOf(canvas) {
  const { width, height } = canvas, bytes = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  return Float32Array.from({ length: 3 * width * height }, (_, i) => {
    const plane = Math.floor(i / (width * height));
    return bytes[4 * (i % (width * height)) + plane] / 127.5 - 1;
  });
}

function imageOf(planes, width, height) {
  const bytes = new Uint8ClampedArray(4 * width * height).fill(255), area = width * height;
  for (let i = 0; i < area; i++) for (let c = 0; c < 3; c++) bytes[4 * i + c] = (planes[c * area + i] + 1) * 127.5;
  return canvasOf({ width, height, bytes });
}

const addNoise = (x0, eps, { alpha, sigma }) => x0.map((v, i) => alpha * v + sigma * eps[i]);

PIECES.noise = (piece, { card, alphaBar }) => {
  const [clean, noise, noisy] = [TELL.clean, TELL.noise, TELL.noisy].map((words) => piece.image(words));
  const t = piece.slider("t", TELL.t, { min: 0, max: alphaBar.length - 1, value: 250 }, draw);
  let seed = 0, eps = null;
  piece.action(TELL.other, () => { seed += 1; eps = null; draw(); });
  const image = readSprite(card, 1, [128, 128], 1).then(([canvas]) => ({ canvas, x0: planesOf(canvas) }));

  async function draw() {
    const { canvas, x0 } = await image, level = vpLevel(+t.value, alphaBar);
    eps ??= new TorchGenerator(seed).randn(x0.length);
    clean(canvas);
    noise(imageOf(eps.map((v) => v / 3), canvas.width, canvas.height)); // darkest at -3, brightest at 3
    noisy(imageOf(addNoise(x0, eps, level), canvas.width, canvas.height));
    piece.said.textContent = TELL.share(plain(level.alpha), plain(level.sigma), plain((level.alpha / level.sigma) ** 2));
  }

  draw();
  return { live: true };
};
