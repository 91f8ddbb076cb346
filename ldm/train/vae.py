r"""Stage 3: the VAE. Compress a drawing, draw it again from what is left, and compare."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldm.convert.folder import read_config, write_config, write_tensors
from ldm.train.data import Pictures, random_indices
from ldm.train.loop import Recipe, mixed_precision, train
from ldm.vae.vae import VAE, kl_divergence, reparametrise

KL_WEIGHT = 5e-4  # light: the latents should be tidy, the pictures sharp


def reconstruction_loss(
    pixels: Float[Tensor, "b 3 h w"], painted: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, ""]:
    """Mean absolute error, mean squared error, and the absolute error of the picture's slopes.

    Absolute error alone is content with a blurred edge; a wrong slope is what a blurred edge is.
    """
    error = painted - pixels
    slopes = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + error.square().mean() + 0.5 * slopes


def vae_loss(vae: VAE, pixels: Float[Tensor, "b 3 h w"], generator: torch.Generator) -> Float[Tensor, ""]:
    r"""Reconstruction plus a light KL term (per latent number): the shape of the negative ELBO.

    Source: Kingma & Welling 2014, eq. 7. Rombach et al. 2022, appendix G, weigh the KL term as lightly, and add a
    perceptual and an adversarial loss against blur.
    """
    with mixed_precision():
        mean, logvar = (t.float() for t in vae.encode(pixels))
        latent = reparametrise(mean, logvar, torch.randn(mean.shape, generator=generator))
        painted = vae.decode(latent).float()
    kl = kl_divergence(mean, logvar).mean() / mean[0].numel()
    return reconstruction_loss(pixels, painted) + KL_WEIGHT * kl


@torch.no_grad()
def latent_std(vae: VAE, pictures: Pictures, count: int = 2000) -> float:
    """The standard deviation of the latents' means over `count` pictures; its inverse is the scale.

    (The means, not samples: the encoder's own deviation is near 0.02 of it, so the difference is not worth the noise.)
    """
    count = min(count, len(pictures))
    means = [vae.encode(pictures.batch(np.arange(i, min(i + 50, count))))[0] for i in range(0, count, 50)]
    return torch.cat(means).std().item()


@torch.no_grad()
def psnr(vae: VAE, pictures: Pictures, count: int = 1000) -> float:
    """Peak signal-to-noise ratio of the reconstructions, in dB: the mean over pictures."""
    ratios, count = [], min(count, len(pictures))
    for i in range(0, count, 50):
        pixels = pictures.batch(np.arange(i, min(i + 50, count)))
        error = (vae.decode(vae.encode(pixels)[0]).clamp(-1, 1) - pixels).square().mean(dim=(1, 2, 3))
        ratios += [10 * math.log10(2**2 / e) for e in error.tolist()]  # the range of [-1, 1] is 2
    return sum(ratios) / len(ratios)


def train_vae(
    folder: Path, run: Path, pictures: Pictures, held_out: Pictures, recipe: Recipe, seed: int, resume: bool
) -> dict[str, float]:
    """Train the VAE from nothing, measure its scale, write it to the model's `folder`. Returns what it reached."""
    config = read_config(folder)
    torch.manual_seed(seed)
    vae = VAE(replace(config.vae, scale=1.0))  # the scale is known only when training is over

    def loss_at(step: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        generator = torch.Generator().manual_seed(seed * 10**9 + step)
        return vae_loss(vae, pictures.batch(random_indices(rng, len(pictures), recipe.batch)), generator)

    average = train(vae, loss_at, recipe, run, resume)
    reached = {"PSNR, held-out combinations (dB)": psnr(average, held_out)}
    scale = 1 / latent_std(average, pictures)
    write_tensors(folder / "vae.safetensors", average.state_dict())
    write_config(folder, replace(config, vae=replace(config.vae, scale=scale)))
    return reached | {"latent scale": scale}
