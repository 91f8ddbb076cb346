r"""Stage 4: the U-Net learns to name the noise.

Take a latent, drown it in a random amount of noise, show the result with its caption to the network, and ask
for the noise. That is all; "painting" appears nowhere in the training (Ho et al. 2020, algorithm 1).
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from ldm.config import NoiseConfig
from ldm.convert.folder import fill, read_config, read_tensors, read_tokenizer, write_tensors
from ldm.diffusion.predict import target
from ldm.diffusion.schedule import add_noise, make_alpha_bar
from ldm.text.encoder import TextEncoder
from ldm.train.data import Pictures, random_indices
from ldm.train.loop import Recipe, mixed_precision, train
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE, reparametrise

DROP = 0.1  # of the captions are emptied, so that guidance has a prediction without prompt (Ho & Salimans 2022, alg. 1)


def random_timesteps(batch: int, steps: int, generator: torch.Generator) -> Int[Tensor, "b"]:
    """Random timesteps, one from each of `batch` equal stretches of [0, steps).

    So every step of training sees all noise levels, and its gradient varies less than with independent draws.
    (Stratified sampling; Kingma et al. 2021, appendix I, shift one grid by one random number, to the same end.)
    """
    t = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch * steps
    # In float32, 31 + 0.99999994 is 32: the last one may round up to `steps` itself.
    return t.long().clamp(max=steps - 1)


def diffusion_loss(
    unet: nn.Module,
    latents: Float[Tensor, "b z h w"],
    context: Float[Tensor, "b n d"],
    noise_config: NoiseConfig,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    r"""$\mathbb E\,\lVert \epsilon - \epsilon_\theta(x_t, t, c) \rVert^2$ (Ho et al. 2020, eq. 14; with v or x0, their
    own target). Knowing nothing costs 1."""
    t = random_timesteps(len(latents), noise_config.steps, generator)
    eps = torch.randn(latents.shape, generator=generator)
    alpha_bar_t = make_alpha_bar(noise_config)[t]
    with mixed_precision():
        out = unet(add_noise(latents, eps, alpha_bar_t), t, context).float()
    return F.mse_loss(out, target(noise_config.prediction, latents, eps, alpha_bar_t))


def drop_captions(captions: list[str], rng: np.random.Generator, share: float) -> list[str]:
    """The captions, each emptied with probability `share`."""
    return [caption if rng.random() >= share else "" for caption in captions]


class Latents:
    """Pictures and their latents, encoded once: the mean and log-variance of each."""

    @torch.no_grad()
    def __init__(self, vae: VAE, pictures: Pictures):
        self.pictures = pictures
        encoded = [
            vae.encode(pictures.batch(np.arange(i, min(i + 50, len(pictures)))))
            for i in tqdm(range(0, len(pictures), 50), desc="encoding", unit_scale=50, unit="picture")
        ]
        self.mean = torch.cat([mean for mean, _ in encoded])
        self.logvar = torch.cat([logvar for _, logvar in encoded])

    def sample(self, indices: np.ndarray, generator: torch.Generator) -> Float[Tensor, "b z h w"]:
        """A fresh sample of each latent at `indices`."""
        mean, logvar = self.mean[indices], self.logvar[indices]
        return reparametrise(mean, logvar, torch.randn(mean.shape, generator=generator))


def train_diffusion(
    folder: Path, run: Path, pictures: Pictures, held_out: Pictures, recipe: Recipe, seed: int, resume: bool
) -> dict[str, float]:
    """Train the U-Net from nothing, with text encoder and VAE as they are. Returns what it reached."""
    config = read_config(folder)
    tokenizer = read_tokenizer(folder, config.text)
    text, vae = TextEncoder(config.text), VAE(config.vae)
    for module, name in ((text, "text"), (vae, "vae")):
        path = folder / f"{name}.safetensors"
        fill(module, read_tensors(path), path)
        module.requires_grad_(False)
    torch.manual_seed(seed)
    unet = UNet(config.unet)

    def loss_on(network: nn.Module, data: Latents, key: int, batch: int, drop: float) -> Tensor:
        """The loss on one batch of `data`, which `key` determines together with the seed."""
        rng, generator = np.random.default_rng([seed, key]), torch.Generator().manual_seed(seed * 10**9 + key)
        indices = random_indices(rng, len(data.pictures), batch)
        captions = drop_captions(data.pictures.captions(indices, rng), rng, drop)
        with mixed_precision():
            context = text(tokenizer(captions)).float()
        return diffusion_loss(network, data.sample(indices, generator), context, config.noise, generator)

    seen = Latents(vae, pictures)
    average = train(unet, lambda step: loss_on(unet, seen, step, recipe.batch, DROP), recipe, run, resume)
    write_tensors(folder / "unet.safetensors", average.state_dict())
    with torch.no_grad():
        unseen = Latents(vae, held_out)
        # The keys lie far beyond any step of training, so that no draw is shared with it.
        losses = [loss_on(average, unseen, 10**8 + i, batch=64, drop=0.0).item() for i in range(16)]
    return {"loss, held-out combinations": sum(losses) / len(losses)}
