r"""What training minimises, and what it keeps."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ldm.config import NoiseConfig
from ldm.diffusion.schedule import make_alpha_bar
from ldm.postcards import Box
from ldm.text.image import ImageEncoder, standardise
from ldm.train.adversary import adaptive_weight, discriminator_loss, frozen_logits
from ldm.train.diffusion import diffusion_loss, min_snr_weights
from ldm.train.importance import importance
from ldm.train.loop import update_ema
from ldm.train.perceptual import perceptual_loss
from ldm.train.vae import VAEGAN, LossWeights, reconstruction_loss, vae_loss
from ldm.vae.vae import VAE
from tests.equations.numbers import agree, normal, tensor
from tests.small import CONFIG, small_clip


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    r"""Losses are computed in torch's default precision; small networks are made anew from a fixed seed."""
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(torch.float32)


def test_min_snr_weights():
    r"""Up to a factor that makes their mean 1; for a network that says noise, v and picture.

    $$w_t \propto \frac{\min(\mathrm{SNR}_t, 5)}{\mathrm{SNR}_t}, \qquad
      \frac{\min(\mathrm{SNR}_t, 5)}{\mathrm{SNR}_t + 1}, \qquad \min(\mathrm{SNR}_t, 5), \qquad
      \mathrm{SNR}_t = \frac{\bar\alpha_t}{1 - \bar\alpha_t}$$
    """
    alpha_bar = make_alpha_bar(NoiseConfig()).double().numpy()
    snr = alpha_bar / (1 - alpha_bar)
    for kind, below in (("eps", snr), ("v", snr + 1), ("x0", 1)):
        weight = np.minimum(snr, 5) / below
        agree(min_snr_weights(NoiseConfig(prediction=kind)), weight / weight.mean(), tolerance=1e-5)


def test_min_snr_weights_at_zero_terminal_snr():
    r"""For a network that says v and picture; the last weight is not 0.

    $$w_t \propto \frac{\min(\mathrm{SNR}_t + 1, 5)}{\mathrm{SNR}_t + 1}, \qquad \min(\mathrm{SNR}_t + 1, 5)$$
    """
    config = NoiseConfig(prediction="v", zero_snr=True)
    alpha_bar = make_alpha_bar(config).double().numpy()
    snr = alpha_bar / (1 - alpha_bar)
    for kind, below in (("v", snr + 1), ("x0", 1)):
        weight = np.minimum(snr + 1, 5) / below
        agree(min_snr_weights(replace(config, prediction=kind)), weight / weight.mean(), tolerance=1e-5)


def test_importance():
    r"""A large thing, a small one that covers cells in part, and one that is less than a cell.

    $$m = 1 + \sum_k \min\!\left(4, \frac{n / 4}{\sum c_k}\right) c_k, \qquad w = m / \overline{m}$$
    """
    boxes = [
        Box("dog", 0, 0, 1, 0.5),
        Box("hat", 0.1, 0.1, 0.4, 0.3),
        Box("flower", 0.7, 0.7, 0.75, 0.75),
        Box("lake", 0, 0, 1, 1),
    ]
    m = np.ones((8, 8))
    for box in boxes[:3]:  # places are no things
        c = box.coverage(8, 8)
        m += min(4, 64 / 4 / c.sum()) * c
    agree(torch.from_numpy(importance(boxes, 8)), m / m.mean())


class Guess(nn.Module):
    r"""In the U-Net's place: some function of all that it is told."""

    def forward(self, x_t, t, context):
        return 0.3 * x_t + 0.001 * t[:, None, None, None] + context.mean(dim=(1, 2))[:, None, None, None]


def test_diffusion_loss():
    r"""Two latents at different t, n numbers in each.

    $$L = \mathbb E_{x_0, c, t, \epsilon}\, \frac{w_t}{n} \lVert \epsilon - \epsilon_\theta(x_t, t, c) \rVert^2$$
    """
    x0, eps, context, t = normal(2, 4, 3, 5), normal(2, 4, 3, 5, seed=1), normal(2, 6, 3), [100, 900]
    alpha_bar = make_alpha_bar(NoiseConfig()).double().numpy()
    w = np.minimum(alpha_bar / (1 - alpha_bar), 5) * (1 - alpha_bar) / alpha_bar
    total = 0.0
    for i in range(2):
        a = alpha_bar[t[i]]
        x_t = np.sqrt(a) * x0[i] + np.sqrt(1 - a) * eps[i]
        guess = 0.3 * x_t + 0.001 * t[i] + context[i].mean()
        total += w[t[i]] / w.mean() * np.linalg.norm(eps[i] - guess) ** 2 / eps[i].size
    loss = diffusion_loss(Guess(), tensor(x0), torch.tensor(t), tensor(eps), tensor(context), NoiseConfig())
    agree(loss, total / 2, tolerance=1e-5)  # the schedule is in float32


def test_moving_average():
    r"""Early, when the decay is still growing, and late.

    $$\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta, \qquad
      d = \min\!\left(\mathtt{decay},\, \frac{1 + \mathtt{step}}{10 + \mathtt{step}}\right)$$
    """
    for step in (0, 7, 10**6):
        average, module = nn.Linear(3, 2), nn.Linear(3, 2)
        before, now = average.weight.detach().numpy().copy(), module.weight.detach().numpy()
        d = min(0.999, (1 + step) / (10 + step))
        update_ema(average, module, 0.999, step)
        agree(average.weight, d * before + (1 - d) * now)


def test_hinge_loss():
    r"""Verdicts on both sides of 1 and of -1.

    $$L_D = \tfrac12\, \mathbb E[\max(0, 1 - D(x))] + \tfrac12\, \mathbb E[\max(0, 1 + D(\tilde x))]$$
    """
    real, painted = 2 * normal(2, 1, 3, 3), 2 * normal(2, 1, 3, 3, seed=1)
    expected = np.mean(np.maximum(0, 1 - real)) / 2 + np.mean(np.maximum(0, 1 + painted)) / 2
    agree(discriminator_loss(tensor(real), tensor(painted)), expected)


def test_adversarial_weight():
    r"""Two losses whose gradients are known: each is a weighted sum of the layer's numbers.

    $$\lambda = \frac{\lVert \nabla_\mathrm{last} L_\mathrm{rec} \rVert}
                     {\lVert \nabla_\mathrm{last} L_\mathrm{adv} \rVert + 10^{-4}}$$
    """
    last, a, b = tensor(normal(3, 4)).requires_grad_(), normal(3, 4, seed=1), normal(3, 4, seed=2)
    weight = adaptive_weight((tensor(a) * last).sum(), (tensor(b) * last).sum(), last)
    agree(weight, np.sqrt(np.sum(a**2)) / (np.sqrt(np.sum(b**2)) + 1e-4))


def test_perceptual_loss():
    r"""On the features of a small encoder.

    $$L_\mathrm{perceptual} = \frac1n \sum_{l=1}^{n} \mathbb E_i\,
      \lVert \hat f_{l,i}(x) - \hat f_{l,i}(\tilde x) \rVert^2$$
    """
    encoder, size = ImageEncoder(CONFIG.image), CONFIG.image.size
    x, painted = np.tanh(normal(2, 3, size, size)), np.tanh(normal(2, 3, size, size, seed=1))
    layers = []
    for seen, got in zip(*(encoder.states(standardise(tensor(p))) for p in (x, painted)), strict=True):
        f, g = (states.detach().numpy().reshape(-1, CONFIG.image.width) for states in (seen, got))
        units = zip(f, g, strict=True)
        layers.append(
            np.mean([np.sum((p / np.linalg.norm(p) - q / np.linalg.norm(q)) ** 2) for p, q in units])
        )
    agree(perceptual_loss(encoder, tensor(x), tensor(painted), size), np.mean(layers))


def test_vae_loss():
    r"""All terms at once, from what a small VAE and its discriminator say.

    $$L = L_\mathrm{rec} + w_p L_\mathrm{perceptual} + \frac{w_k}{n} D_\mathrm{KL} + w_a \lambda L_\mathrm{adv} + L_D,
      \qquad L_\mathrm{adv} = -\mathbb E[D(\tilde x)]$$
    """
    vae, clip, size = VAE(CONFIG.vae), small_clip(), CONFIG.image.size
    vaegan, x = VAEGAN(vae), tensor(np.tanh(normal(2, 3, size, size)))
    mean, logvar = vae.encode(x)
    noise = normal(*mean.shape, seed=1)
    painted = vae.decode(mean + (logvar / 2).exp() * tensor(noise))
    rec, perceptual = reconstruction_loss(x, painted), perceptual_loss(clip.image, x, painted, size)
    lam = adaptive_weight(
        rec + 0.5 * perceptual,
        -frozen_logits(vaegan.discriminator, painted).mean(),
        vae.decoder.conv_out.weight,
    )

    loss = vae_loss(
        vaegan, clip, x, tensor(noise), LossWeights(1.0, perceptual=0.5, adversarial=0.2, kl=0.01)
    )
    m, v = mean.detach().numpy(), np.exp(logvar.detach().numpy())
    kl = np.sum(m**2 + v - 1 - np.log(v), axis=(1, 2, 3)) / 2
    real, fake = (vaegan.discriminator(p).detach().numpy() for p in (x, painted))
    hinge = (np.mean(np.maximum(0, 1 - real)) + np.mean(np.maximum(0, 1 + fake))) / 2
    expected = rec.item() + 0.5 * perceptual.item() + 0.01 / m[0].size * np.mean(kl)
    agree(loss, expected - 0.2 * lam.item() * np.mean(fake) + hinge)
