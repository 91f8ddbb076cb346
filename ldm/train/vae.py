r"""Stage 3: the VAE. It compresses an image to a latent, reconstructs the image, and minimises the difference.

Four losses measure the difference, as in the original (Rombach et al. 2022, appendix G): the reconstruction loss on
pixels; the perceptual loss on the features of a trained network (`perceptual.py`); the adversarial loss from a
discriminator that detects reconstructions (`adversary.py`); and the KL term, which keeps the latents close to a
standard normal distribution.

Training has two phases. First, encoder and decoder are trained together. Then the encoder is frozen, so that the
latents no longer change, and the decoder alone is fine-tuned. Stable Diffusion's own decoder was fine-tuned like this
after its release, and every U-Net trained before still works with it (sd-vae-ft-mse; its model card gives the weights:
squared error, and a tenth of the perceptual loss).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.checkpoints.folder import read_clip, read_config, write_config, write_tensors
from ldm.errors import LdmError
from ldm.files.read_write import atomic_path
from ldm.images.pixels import to_images
from ldm.postcards import grid
from ldm.text.clip import CLIP
from ldm.train.adversary import Discriminator, adaptive_weight, discriminator_loss, frozen_logits
from ldm.train.checkpoint import Identity, fingerprint
from ldm.train.data import CaptionedImages, random_noise
from ldm.train.grow import grow
from ldm.train.loop import Recipe, full_precision, mixed_precision, train, use_plain_attention
from ldm.train.perceptual import perceptual_loss
from ldm.train.processes import device, rank, slice_for_rank
from ldm.vae.vae import VAE, kl_divergence, reparametrise


@dataclass(frozen=True)
class LossWeights:
    """The weight of each loss relative to the absolute error; 0 leaves it out.

    The field names are hashed into the checkpoint's identity, so renaming one would make old checkpoints unusable.
    """

    squared: float  # the squared error, which penalises large errors more than small ones
    perceptual: float
    adversarial: float  # multiplied by `adaptive_weight`
    kl: float  # small: regular latents matter less than sharp images
    encoder_rests: bool = False  # freeze the encoder


JOINT = LossWeights(squared=4.0, perceptual=0.0, adversarial=0.0, kl=5e-4)
DECODER_ONLY = LossWeights(squared=10.0, perceptual=0.1, adversarial=0.1, kl=0.0, encoder_rests=True)
DECODER_ONLY_FROM = 0.72  # the fraction of the training after which the encoder is frozen


class VAEGAN(nn.Module):
    """A VAE and its discriminator, trained together."""

    def __init__(self, vae: VAE):
        super().__init__()
        self.vae = vae
        self.discriminator = Discriminator()


def reconstruction_loss(
    pixels: Float[Tensor, "b 3 h w"], reconstructed: Float[Tensor, "b 3 h w"], squared: float = 1.0
) -> Float[Tensor, ""]:
    """Mean absolute error, mean squared error times `squared`, and half the absolute error of the image gradients.

    The absolute error alone tolerates blurred edges; the gradients of a blurred edge are wrong.
    """
    error = reconstructed - pixels
    gradient_error = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + squared * error.square().mean() + 0.5 * gradient_error


def vae_loss(
    vaegan: VAEGAN,
    clip: CLIP | None,
    pixels: Float[Tensor, "b 3 h w"],
    noise: Float[Tensor, "b z h2 w2"],
    weights: LossWeights,
) -> Float[Tensor, ""]:
    r"""The total loss of one batch:

    $$L = L_\mathrm{rec} + w_p L_\mathrm{perceptual} + \frac{w_k}{n} D_\mathrm{KL} + w_a \lambda L_\mathrm{adv} + L_D,
      \qquad L_\mathrm{adv} = -\mathbb E[D(\tilde x)]$$

    `noise` is standard normal, of the latent's shape, for the reparametrisation. `clip` computes the perceptual
    features and may be None if that term has no weight. The KL term is divided by the number n of latent values;
    together with the reconstruction it has the form of the negative ELBO (Kingma & Welling 2014, eq. 7). $\lambda$
    (`adaptive_weight`) balances $L_\mathrm{adv}$ against the first two terms. $L_D$ has gradients only for the
    discriminator and $L_\mathrm{adv}$ only for the VAE, so one backward pass trains both.
    """
    vae, discriminator = vaegan.vae, vaegan.discriminator
    with mixed_precision():
        with torch.set_grad_enabled(not weights.encoder_rests):
            mean, logvar = (full_precision(t) for t in vae.encode(pixels))
        reconstructed = full_precision(vae.decode(reparametrise(mean, logvar, noise)))
        loss = reconstruction_loss(pixels, reconstructed, weights.squared)
        if clip is not None and weights.perceptual:
            loss = loss + weights.perceptual * perceptual_loss(
                clip.image, pixels, reconstructed, clip.image_size
            )
        if weights.adversarial:
            adv_loss = -full_precision(frozen_logits(discriminator, reconstructed)).mean()
            adv_weight = adaptive_weight(loss, adv_loss, vae.decoder.conv_out.weight)
            logits = discriminator(torch.cat([pixels, reconstructed.detach()]))
            discriminator_term = discriminator_loss(*full_precision(logits).chunk(2))
            loss = loss + weights.adversarial * adv_weight * adv_loss + discriminator_term
    kl = kl_divergence(mean, logvar).mean() / mean[0].numel()
    return loss + weights.kl * kl


def crop_at(
    pixels: Float[Tensor, "b 3 s s"], corners: Int[np.ndarray, "b 2"], side: int
) -> Float[Tensor, "b 3 c c"]:
    """Crop a square of `side` pixels from each image; `corners` has the row and column of its upper left corner.

    Convolutions are translation equivariant, so a VAE can be trained on crops. Many small crops of different images are
    more diverse than a few whole images with the same number of pixels.
    """
    squares = [p[:, y : y + side, x : x + side] for p, (y, x) in zip(pixels, corners.tolist(), strict=True)]
    return torch.stack(squares)


def random_crops(
    images: CaptionedImages, batch: int, side: int, rng: np.random.Generator, rank_slice: slice
) -> Float[Tensor, "b 3 side side"]:
    """The `rank_slice` of a batch of square crops of `side` pixels, at random positions in random images.

    Every process draws the random numbers of the whole batch.
    """
    indices = rng.integers(len(images), size=batch)
    corners = rng.integers(images.pixels.shape[1] - side, size=(batch, 2), endpoint=True)
    return crop_at(images.batch(indices[rank_slice]), corners[rank_slice], side)


@torch.no_grad()
def latent_std(vae: VAE, images: CaptionedImages, count: int = 2000) -> float:
    """The standard deviation of the latent means over `count` images; its inverse is the scale.

    (Means rather than samples: the encoder's own standard deviation is only about 0.02 of it, so sampling would add
    noise and change little.)
    """
    count = min(count, len(images))
    means = [vae.encode(images.batch(np.arange(i, min(i + 50, count))))[0] for i in range(0, count, 50)]
    return torch.cat(means).std().item()


def reconstructions(vae: VAE, images: CaptionedImages, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The first `count` images and their reconstructions, in batches."""
    count = min(count, len(images))
    for i in range(0, count, 50):
        pixels = images.batch(np.arange(i, min(i + 50, count)))
        yield pixels, vae.decode(vae.encode(pixels)[0]).clamp(-1, 1)


@torch.no_grad()
def reconstruction_psnr(vae: VAE, images: CaptionedImages, count: int = 1000) -> float:
    """The peak signal-to-noise ratio of the reconstructions in dB, averaged over images."""
    pairs = reconstructions(vae, images, count)
    errors = torch.cat([(a - b).square().mean(dim=(1, 2, 3)) for a, b in pairs]).double()
    return (10 * (2**2 / errors).log10()).mean().item()  # the range of [-1, 1] is 2


@torch.no_grad()
def slope_ratio(vae: VAE, images: CaptionedImages, count: int = 1000) -> float:
    """The mean absolute gradient of the reconstructions divided by that of the originals; blurring lowers it.

    It complements PSNR, which prefers a blurred edge to one that is off by one pixel. It cannot tell edges from noise.
    """
    slopes = [0.0, 0.0]
    for pair in reconstructions(vae, images, count):
        for k, x in enumerate(pair):
            slopes[k] += (x.diff(dim=-1).abs().sum() + x.diff(dim=-2).abs().sum()).item()
    return slopes[1] / slopes[0]


@torch.no_grad()
def save_reconstructions(vae: VAE, images: CaptionedImages, path: Path, count: int = 8) -> None:
    """Save a grid of the first images, with their reconstructions below."""
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
    start_from: Path | None = None,
) -> dict[str, float]:
    """Train the VAE, measure its scale and write it to the model's `folder`. Returns its metrics (in process 0).

    `without` names the losses (of `LossWeights`) to leave out; `crop` is the size of the square crops in pixels, None
    for whole images. Training starts with random weights, or with those of the model in the folder `start_from`, whose
    VAE may have fewer channels (`grow`). Raises `LdmError` if `crop` does not fit the images and the VAE
    (`check_crop`), and if `start_from` has no VAE that can grow to this one.
    """
    config = read_config(folder)
    zero_weights: dict[str, Any] = dict.fromkeys(without, 0.0)
    joint, decoder_only = (replace(phase, **zero_weights) for phase in (JOINT, DECODER_ONLY))
    clip = None
    if joint.perceptual or decoder_only.perceptual:
        clip = read_clip(folder, torch.get_default_dtype())[0].requires_grad_(False).to(device())
        use_plain_attention(clip)
    torch.manual_seed(seed)
    vae = VAE(replace(config.vae, scale=1.0))  # the scale is measured after training
    if start_from is not None:
        grow(vae, start_from)
    vaegan = VAEGAN(vae)
    rank_slice = slice_for_rank(recipe.batch)
    crop = images.pixels.shape[1] if crop is None else crop
    check_crop(crop, images, vae, clip)
    side = crop // vae.factor

    def loss_at(step: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        generator = torch.Generator().manual_seed(seed * 10**9 + step)
        pixels = random_crops(images, recipe.batch, crop, rng, rank_slice)
        noise = random_noise((recipe.batch, config.vae.latent_channels, side, side), generator, rank_slice)
        phase = joint if step < DECODER_ONLY_FROM * recipe.steps else decoder_only
        return vae_loss(vaegan, clip, pixels, noise, phase)

    identity: Identity = {
        "seed": seed,
        "pictures": images.identity,
        "config": fingerprint(replace(config.vae, scale=1.0)),
        "clip.safetensors": fingerprint(folder / "clip.safetensors"),
        "weights": fingerprint(joint, decoder_only, DECODER_ONLY_FROM),
        "crop": crop,
        "start": "" if start_from is None else fingerprint(start_from / "vae.safetensors"),
    }

    def write_samples(average: VAEGAN, path: Path) -> None:
        save_reconstructions(average.vae, held_out, path)

    average = train(vaegan, loss_at, recipe, run, resume, identity=identity, on_checkpoint=write_samples).vae
    if rank() > 0:
        return {}
    return write_vae(folder, average, images, held_out)


def check_crop(crop: int, images: CaptionedImages, vae: VAE, clip: CLIP | None) -> None:
    """Raise `LdmError` if crops of that size do not fit the images, the VAE, or the CLIP of the perceptual loss."""
    whole = images.pixels.shape[1]
    if not 0 < crop <= whole or crop % vae.factor:
        raise LdmError(
            f"crops of {crop} pixels; expected a multiple of {vae.factor}, from {vae.factor} to {whole}"
        )
    if clip is not None and crop < clip.image_size:
        raise LdmError(
            f"crops of {crop} pixels with the perceptual loss, whose CLIP reads {clip.image_size}x{clip.image_size}; "
            "take larger crops or leave out the perceptual loss"
        )


def write_vae(folder: Path, vae: VAE, images: CaptionedImages, held_out: CaptionedImages) -> dict[str, float]:
    """Write a trained VAE and the scale of its latents to the model's `folder`. Returns its metrics."""
    metrics = {
        "PSNR, held-out combinations (dB)": reconstruction_psnr(vae, held_out),
        "slopes, as a share of the originals'": slope_ratio(vae, held_out),
    }
    config, scale = read_config(folder), 1 / latent_std(vae, images)
    write_tensors(folder / "vae.safetensors", vae.state_dict())
    write_config(folder, replace(config, vae=replace(config.vae, scale=scale)))
    return metrics | {"latent scale": scale}
