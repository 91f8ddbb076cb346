r"""Stage 3: the VAE. Compress a drawing, draw it again from what is left, and compare.

"Compare" is the whole art. Four losses do it, those of the original (Rombach et al. 2022, appendix G): pixel by pixel;
with the eyes of a network that understands images (`perceptual.py`); with those of a network that looks for what
gives a reconstruction away (`adversary.py`); and the KL term, which keeps the latents tidy.

They come in two phases. At first encoder and decoder learn together what to keep. Then the encoder rests, so that
latents mean for good what they mean now, and the decoder alone polishes its painting. Stable Diffusion's own decoder
was polished so after the fact, and every U-Net trained before could go on using it (sd-vae-ft-mse, whose model card
has the weights: squared error, and a tenth of the perceptual loss).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.convert.folder import read_clip, read_config, write_config, write_tensors
from ldm.errors import LdmError
from ldm.files import atomic_path
from ldm.pixels import to_images
from ldm.postcards import grid
from ldm.text.clip import CLIP
from ldm.train.adversary import Discriminator, adaptive_weight, discriminator_loss, frozen_logits
from ldm.train.checkpoint import Identity, fingerprint
from ldm.train.data import CaptionedImages, random_indices, random_noise
from ldm.train.loop import Recipe, full_precision, mixed_precision, train, use_plain_attention
from ldm.train.perceptual import perceptual_loss
from ldm.train.processes import device, rank, slice_for_rank
from ldm.vae.vae import VAE, kl_divergence, reparametrise


@dataclass(frozen=True)
class LossWeights:
    """How much each loss counts beside the absolute error; 0 leaves it out."""

    squared: float  # the squared error: it cares little for small errors and much for large ones
    perceptual: float
    adversarial: float  # times `adaptive_weight`
    kl: float  # light: the latents should be tidy, the images sharp
    encoder_rests: bool = False


JOINT = LossWeights(squared=1.0, perceptual=1.0, adversarial=0.0, kl=5e-4)
DECODER_ONLY = LossWeights(squared=10.0, perceptual=0.1, adversarial=0.1, kl=0.0, encoder_rests=True)
DECODER_ONLY_FROM = 0.72  # the part of the training after which the encoder rests


class VAEGAN(nn.Module):
    """A VAE and the discriminator that it is to fool: they learn side by side."""

    def __init__(self, vae: VAE):
        super().__init__()
        self.vae = vae
        self.discriminator = Discriminator()


def reconstruction_loss(
    pixels: Float[Tensor, "b 3 h w"], painted: Float[Tensor, "b 3 h w"], squared: float = 1.0
) -> Float[Tensor, ""]:
    """Mean absolute error, mean squared error times `squared`, and the absolute error of the image's slopes.

    Absolute error alone is content with a blurred edge; a wrong slope is what a blurred edge is.
    """
    error = painted - pixels
    slopes = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + squared * error.square().mean() + 0.5 * slopes


def vae_loss(
    vaegan: VAEGAN,
    clip: CLIP | None,
    pixels: Float[Tensor, "b 3 h w"],
    noise: Float[Tensor, "b z h2 w2"],
    weights: LossWeights,
) -> Float[Tensor, ""]:
    r"""All of it for one batch:

    $$L = L_\mathrm{rec} + w_p L_\mathrm{perceptual} + \frac{w_k}{n} D_\mathrm{KL} + w_a \lambda L_\mathrm{adv} + L_D,
      \qquad L_\mathrm{adv} = -\mathbb E[D(\tilde x)]$$

    `noise` is the encoder's, standard normal, of the latent's shape; `clip` sees what the perceptual term compares, and
    may be None if that has no weight. The KL term is per latent number, of which there are n: with reconstruction, the
    shape of the negative ELBO (Kingma & Welling 2014, eq. 7). $\lambda$ (`adaptive_weight`) balances $L_\mathrm{adv}$
    against the first two terms. The discriminator's own loss $L_D$ reaches the discriminator alone, and
    $L_\mathrm{adv}$ the VAE alone, so both learn from one sum.
    """
    vae, discriminator = vaegan.vae, vaegan.discriminator
    with mixed_precision():
        with torch.set_grad_enabled(not weights.encoder_rests):
            mean, logvar = (full_precision(t) for t in vae.encode(pixels))
        painted = full_precision(vae.decode(reparametrise(mean, logvar, noise)))
        loss = reconstruction_loss(pixels, painted, weights.squared)
        if clip is not None and weights.perceptual:
            loss = loss + weights.perceptual * perceptual_loss(clip.image, pixels, painted, clip.image_size)
        if weights.adversarial:
            adversarial = -full_precision(frozen_logits(discriminator, painted)).mean()
            balance = adaptive_weight(loss, adversarial, vae.decoder.conv_out.weight)
            verdicts = discriminator(torch.cat([pixels, painted.detach()]))
            caught = discriminator_loss(*full_precision(verdicts).chunk(2))
            loss = loss + weights.adversarial * balance * adversarial + caught
    kl = kl_divergence(mean, logvar).mean() / mean[0].numel()
    return loss + weights.kl * kl


def crop_at(
    pixels: Float[Tensor, "b 3 s s"], places: Int[np.ndarray, "b 2"], side: int
) -> Float[Tensor, "b 3 c c"]:
    """A square of `side` pixels from each image: `places` has the row and the column of its upper left corner.

    Convolutions do the same everywhere, so a VAE can learn from pieces. Many small ones, each of another image, show
    more of the world than a few whole images of as many pixels, whose neighbouring pixels are much alike.
    """
    squares = [p[:, y : y + side, x : x + side] for p, (y, x) in zip(pixels, places.tolist(), strict=True)]
    return torch.stack(squares)


def random_crops(
    images: CaptionedImages, batch: int, side: int, rng: np.random.Generator, rank_slice: slice
) -> Float[Tensor, "b 3 side side"]:
    """One's `rank_slice` of a batch: squares of `side` pixels, each from any place in any image.

    Everything is drawn for the whole batch, whoever takes which rank_slice of it.
    """
    indices = random_indices(rng, len(images), batch)
    places = rng.integers(images.pixels.shape[1] - side, size=(batch, 2), endpoint=True)
    return crop_at(images.batch(indices[rank_slice]), places[rank_slice], side)


@torch.no_grad()
def latent_std(vae: VAE, images: CaptionedImages, count: int = 2000) -> float:
    """The standard deviation of the latents' means over `count` images; its inverse is the scale.

    (The means, not samples: the encoder's own deviation is near 0.02 of it, so the difference is not worth the noise.)
    """
    count = min(count, len(images))
    means = [vae.encode(images.batch(np.arange(i, min(i + 50, count))))[0] for i in range(0, count, 50)]
    return torch.cat(means).std().item()


@torch.no_grad()
def reconstruction_psnr(vae: VAE, images: CaptionedImages, count: int = 1000) -> float:
    """Peak signal-to-noise ratio of the reconstructions, in dB: the mean over images."""
    ratios, count = [], min(count, len(images))
    for i in range(0, count, 50):
        pixels = images.batch(np.arange(i, min(i + 50, count)))
        error = (vae.decode(vae.encode(pixels)[0]).clamp(-1, 1) - pixels).square().mean(dim=(1, 2, 3))
        ratios += [10 * math.log10(2**2 / e) for e in error.tolist()]  # the range of [-1, 1] is 2
    return sum(ratios) / len(ratios)


@torch.no_grad()
def slope_ratio(vae: VAE, images: CaptionedImages, count: int = 1000) -> float:
    """The mean absolute slope of the reconstructions, as a share of the originals': below 1, edges were blurred.

    PSNR prefers a blur to an edge that is one pixel off, so this stands beside it. It cannot tell an edge from a speck.
    """
    slopes, count = [0.0, 0.0], min(count, len(images))
    for i in range(0, count, 50):
        pixels = images.batch(np.arange(i, min(i + 50, count)))
        for k, x in enumerate((vae.decode(vae.encode(pixels)[0]).clamp(-1, 1), pixels)):
            slopes[k] += (x.diff(dim=-1).abs().sum() + x.diff(dim=-2).abs().sum()).item()
    return slopes[0] / slopes[1]


@torch.no_grad()
def save_reconstructions(vae: VAE, images: CaptionedImages, path: Path, count: int = 8) -> None:
    """The first images, and below them what the VAE makes of them."""
    pixels = images.batch(np.arange(min(count, len(images))))
    sheet = to_images(torch.cat([pixels, vae.decode(vae.encode(pixels)[0])]))
    with atomic_path(path) as temporary:
        grid(sheet, columns=len(pixels)).save(temporary, format="PNG")


def train_vae(
    folder: Path,
    run: Path,
    images: CaptionedImages,
    held_out: CaptionedImages,
    recipe: Recipe,
    seed: int,
    resume: bool,
    without: Sequence[str] = (),
    crop: int | None = None,
) -> dict[str, float]:
    """Train the VAE from nothing, measure its scale, write it to the model's `folder`. Returns its metrics.

    `without` names the losses (of `LossWeights`) to leave out; `crop` is the side, in pixels, of the squares
    that it looks at instead of whole images. Raises `LdmError` for a `crop` that does not fit image and VAE.
    """
    config = read_config(folder)
    left_out: dict[str, Any] = dict.fromkeys(without, 0.0)
    learn, polish = (replace(phase, **left_out) for phase in (JOINT, DECODER_ONLY))
    clip = None
    if learn.perceptual:
        clip = read_clip(folder, torch.get_default_dtype())[0].requires_grad_(False).to(device())
        use_plain_attention(clip)
    torch.manual_seed(seed)
    vae = VAE(replace(config.vae, scale=1.0))  # the scale is known only when training is over
    vaegan = VAEGAN(vae)
    whole, rank_slice = images.pixels.shape[1], slice_for_rank(recipe.batch)
    crop = whole if crop is None else crop
    if not 0 < crop <= whole or crop % vae.factor:
        raise LdmError(
            f"crops of {crop} pixels; expected a multiple of {vae.factor}, from {vae.factor} to {whole}"
        )
    side = crop // vae.factor

    def loss_at(step: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        generator = torch.Generator().manual_seed(seed * 10**9 + step)
        pixels = random_crops(images, recipe.batch, crop, rng, rank_slice)
        noise = random_noise((recipe.batch, config.vae.latent_channels, side, side), generator, rank_slice)
        phase = learn if step < DECODER_ONLY_FROM * recipe.steps else polish
        return vae_loss(vaegan, clip, pixels, noise, phase)

    identity: Identity = {
        "seed": seed,
        "pictures": images.identity,
        "config": fingerprint(replace(config.vae, scale=1.0)),
        "clip.safetensors": fingerprint(folder / "clip.safetensors"),
        "weights": fingerprint(learn, polish, DECODER_ONLY_FROM),
        "crop": crop,
    }

    def write_samples(average: VAEGAN, path: Path) -> None:
        save_reconstructions(average.vae, held_out, path)

    average = train(vaegan, loss_at, recipe, run, resume, identity=identity, on_checkpoint=write_samples).vae
    if rank() > 0:
        return {}
    return write_vae(folder, average, images, held_out)


def write_vae(folder: Path, vae: VAE, images: CaptionedImages, held_out: CaptionedImages) -> dict[str, float]:
    """Write a trained VAE, and the scale of its latents, to the model's `folder`. Returns its metrics."""
    metrics = {
        "PSNR, held-out combinations (dB)": reconstruction_psnr(vae, held_out),
        "slopes, as a share of the originals'": slope_ratio(vae, held_out),
    }
    config, scale = read_config(folder), 1 / latent_std(vae, images)
    write_tensors(folder / "vae.safetensors", vae.state_dict())
    write_config(folder, replace(config, vae=replace(config.vae, scale=scale)))
    return metrics | {"latent scale": scale}
