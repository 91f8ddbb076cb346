r"""Stage 4: the U-Net learns to name the noise.

Take a latent, drown it in a random amount of noise, show the result with its caption to the network, and ask
for the noise. That is all; "painting" appears nowhere in the training (Ho et al. 2020, algorithm 1).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from ldm.config import NoiseConfig
from ldm.convert.folder import fill, read_config, read_tensors, read_tokenizer, write_tensors
from ldm.diffusion.predict import training_target
from ldm.diffusion.schedule import add_noise, make_alpha_bar
from ldm.files import atomic_path
from ldm.pipeline import LatentDiffusion
from ldm.postcards import DEMO_PROMPTS, grid
from ldm.train.checkpoint import Identity, fingerprint
from ldm.train.data import CaptionedImages, random_indices, random_noise
from ldm.train.loop import Recipe, full_precision, mixed_precision, train
from ldm.train.processes import device, rank, slice_for_rank
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE, reparametrise

MIN_SNR = 5.0
CAPTION_DROPOUT = 0.1  # the probability of an empty caption, for guidance (Ho & Salimans 2022, alg. 1)
WHOLE_BATCH = slice(None)  # the rank slice of a single process


def random_timesteps(batch: int, steps: int, generator: torch.Generator) -> Int[Tensor, "b"]:
    """Random timesteps, one from each of `batch` equal stretches of [0, steps).

    So every step of training sees all noise levels, and its gradient varies less than with independent draws.
    (Stratified sampling; Kingma et al. 2021, appendix I, shift one grid by one random number, to the same end.)
    """
    t = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch * steps
    # In float32, 31 + 0.99999994 is 32: the last one may round up to `steps` itself.
    return t.long().clamp(max=steps - 1)


def min_snr_weights(noise_config: NoiseConfig) -> Float[Tensor, "T"]:
    r"""How much a squared error counts at each noise level; on average 1.

    Weighing all errors of $\epsilon$ alike is not weighing alike: the same error in $\epsilon$ moves the guess of
    $x_0$ by $\mathrm{SNR}_t^{-1/2} = \sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$ of it. Where little noise is left, the
    network would spend itself on grains that nobody sees. So an error in $x_0$ counts $\min(\mathrm{SNR}_t, 5)$. The
    same error, seen in $\epsilon$, in v and in $x_0$ itself, counts

    $$w_t \propto \frac{\min(\mathrm{SNR}_t, 5)}{\mathrm{SNR}_t}, \qquad
      \frac{\min(\mathrm{SNR}_t, 5)}{\mathrm{SNR}_t + 1}, \qquad \min(\mathrm{SNR}_t, 5), \qquad
      \mathrm{SNR}_t = \frac{\bar\alpha_t}{1 - \bar\alpha_t}$$

    At zero terminal SNR that would be 0 for the very step from which every image is sampled: the network would never
    learn to answer there. So on such a schedule the clamp is applied to $\mathrm{SNR}_t + 1$, which is what the plain
    squared error of v gives an error in $x_0$. For v and for $x_0$:

    $$w_t \propto \frac{\min(\mathrm{SNR}_t + 1, 5)}{\mathrm{SNR}_t + 1}, \qquad \min(\mathrm{SNR}_t + 1, 5)$$

    Source: Hang et al. 2023, section 3.4, who found that training so is several times faster. With zero terminal SNR as
    in diffusers' training scripts, which add 1 for every model that predicts v.
    """
    alpha_bar = make_alpha_bar(noise_config)
    snr = alpha_bar / (1 - alpha_bar)
    counted = (snr + 1 if noise_config.zero_snr else snr).clamp(max=MIN_SNR)  # of an error in x0
    weight = counted / {"eps": snr, "v": snr + 1, "x0": torch.ones_like(snr)}[noise_config.prediction]
    return weight / weight.mean()


def diffusion_loss(
    unet: nn.Module,
    latents: Float[Tensor, "b z h w"],
    t: Int[Tensor, "b"],
    eps: Float[Tensor, "b z h w"],
    context: Float[Tensor, "b n d"],
    noise_config: NoiseConfig,
) -> Float[Tensor, ""]:
    r"""The mean squared error of the guess, weighted by `min_snr_weights`:

    $$L = \mathbb E_{x_0, c, t, \epsilon}\, \frac{w_t}{n} \lVert \epsilon - \epsilon_\theta(x_t, t, c) \rVert^2$$

    for latents of n numbers; with v or x0, their own target in the place of $\epsilon$. Saying nothing costs 1,
    for noise and latents have variance 1. Source: Ho et al. 2020, eq. 14, where $w_t = 1$ and the squares are added up.
    """
    alpha_bar_t = make_alpha_bar(noise_config).to(t.device)[t]
    with mixed_precision():
        out = full_precision(unet(add_noise(latents, eps, alpha_bar_t), t, context))
    error = out - training_target(noise_config.prediction, latents, eps, alpha_bar_t)
    weight = min_snr_weights(noise_config).to(t.device)[t]
    return (weight * error.square().mean(dim=(1, 2, 3))).mean()


def drop_captions(captions: list[str], rng: np.random.Generator, probability: float) -> list[str]:
    """The captions, each emptied with probability `probability`."""
    return [caption if rng.random() >= probability else "" for caption in captions]


class EncodedImages:
    """CaptionedImages and their latents, encoded once: the mean and log-variance of each."""

    @torch.no_grad()
    def __init__(self, vae: VAE, images: CaptionedImages):
        self.images = images
        portions = range(0, len(images), 50)
        bar = tqdm(portions, desc="encoding", unit_scale=50, unit="image", disable=rank() > 0)
        with mixed_precision():
            encoded = [vae.encode(images.batch(np.arange(i, min(i + 50, len(images))))) for i in bar]
        self.mean = torch.cat([full_precision(mean) for mean, _ in encoded])
        self.logvar = torch.cat([full_precision(logvar) for _, logvar in encoded])

    def sample(
        self, indices: np.ndarray, generator: torch.Generator, rank_slice: slice = WHOLE_BATCH
    ) -> Float[Tensor, "b z h w"]:
        """A fresh sample of each latent in one's `rank_slice` of `indices`."""
        mean, logvar = self.mean[indices[rank_slice]], self.logvar[indices[rank_slice]]
        noise = random_noise((len(indices), *mean.shape[1:]), generator, rank_slice)
        return reparametrise(mean, logvar, noise)


def read_frozen(folder: Path) -> LatentDiffusion:
    """The model in `folder`, with text encoder and VAE as trained, and a U-Net that has learned nothing yet."""
    config = read_config(folder)
    model = LatentDiffusion(config, read_tokenizer(folder, config.text))
    for module, name in ((model.text, "text"), (model.vae, "vae")):
        path = folder / f"{name}.safetensors"
        fill(module, read_tensors(path, torch.get_default_dtype()), path)
    return model.requires_grad_(False).to(device())


def batch_loss(
    model: LatentDiffusion,
    unet: nn.Module,
    data: EncodedImages,
    key: Sequence[int],
    batch: int,
    drop: float,
    rank_slice: slice,
) -> Float[Tensor, ""]:
    """The loss on one's `rank_slice` of one batch of `data`, which `key`, seed and step, determines.

    Everything is drawn for the whole batch, and in the same order, whoever takes which rank_slice of it.
    """
    seed, step = key
    rng, generator = np.random.default_rng([seed, step]), torch.Generator().manual_seed(seed * 10**9 + step)
    indices = random_indices(rng, len(data.images), batch)
    captions = drop_captions(data.images.captions(indices, rng), rng, drop)
    with mixed_precision():
        context = full_precision(model.encode_text(captions[rank_slice]))
    latents = data.sample(indices, generator, rank_slice)
    t = random_timesteps(batch, model.config.noise.steps, generator)[rank_slice].to(device())
    eps = random_noise((batch, *latents.shape[1:]), generator, rank_slice)
    return diffusion_loss(unet, latents, t, eps, context, model.config.noise)


def sample_prompts(model: LatentDiffusion, prompts: Sequence[str], path: Path) -> None:
    """A row for each prompt, painted in a few steps from the seeds 0 to 3."""
    with mixed_precision():
        rows = [model.generate(prompt, seed=0, batch=4, steps=20, sampler="ddim") for prompt in prompts]
    with atomic_path(path) as temporary:
        grid(sum(rows, []), columns=4).save(temporary, format="PNG")


def train_diffusion(
    folder: Path,
    run: Path,
    images: CaptionedImages,
    held_out: CaptionedImages,
    recipe: Recipe,
    seed: int,
    resume: bool,
    compiled: bool = False,
) -> dict[str, float]:
    """Train the U-Net from nothing, with text encoder and VAE as they are. Returns its metrics (in process 0)."""
    model = read_frozen(folder)
    torch.manual_seed(seed)
    unet = UNet(model.config.unet)
    if compiled:
        unet.compile()  # torch.compile, but for the module as it is: its weights keep their names
    seen, rank_slice = EncodedImages(model.vae, images), slice_for_rank(recipe.batch)
    # One's own images come with captions of their own to ask for.
    prompts = [s for s in held_out.scenes[:6] if isinstance(s, str)] or DEMO_PROMPTS

    def loss_at(step: int) -> Tensor:
        return batch_loss(model, unet, seen, (seed, step), recipe.batch, CAPTION_DROPOUT, rank_slice)

    def write_samples(average: UNet, path: Path) -> None:
        model.unet = average
        sample_prompts(model, prompts, path)

    identity: Identity = {
        "seed": seed,
        "pictures": images.identity,
        "config": fingerprint(folder / "config.json"),
        "tokenizer": fingerprint(folder / "tokenizer/merges.txt"),
        "text.safetensors": fingerprint(folder / "text.safetensors"),
        "vae.safetensors": fingerprint(folder / "vae.safetensors"),
    }
    average = train(unet, loss_at, recipe, run, resume, identity=identity, on_checkpoint=write_samples)
    if rank() > 0:
        return {}
    write_tensors(folder / "unet.safetensors", average.state_dict())
    with torch.no_grad():
        unseen = EncodedImages(model.vae, held_out)
        # The keys lie far beyond any step of training, so that no draw is shared with it.
        keys = [(seed, 10**8 + i) for i in range(16)]
        losses = [batch_loss(model, average, unseen, key, 64, 0.0, WHOLE_BATCH).item() for key in keys]
    return {"loss, held-out combinations": sum(losses) / len(losses)}
