r"""Stage 4: the U-Net learns to predict the noise, or v, as its config says, and the text encoder learns with it.

Add a random amount of noise to a latent, give the result and the caption to the network, and train it to predict the
noise. That is all: training never runs a sampler (Ho et al. 2020, algorithm 1).

Both networks follow one gradient, as in Rombach et al. 2022, eq. 3. (Stable Diffusion's text encoder is frozen: CLIP's
had seen 400 million images. Ours knows no more of a small thing than our image encoder can see, and has to learn from
the U-Net which words matter.)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from ldm.checkpoints.folder import fill, read_config, read_tensors, read_tokenizer, write_tensors
from ldm.config import NoiseConfig
from ldm.diffusion.predict import training_target
from ldm.diffusion.schedule import add_noise, make_alpha_bar
from ldm.files.read_write import atomic_path
from ldm.pipeline import LatentDiffusion
from ldm.postcards import DEMO_PROMPTS, grid
from ldm.text.encoder import TextEncoder
from ldm.train.checkpoint import Identity, fingerprint
from ldm.train.data import CaptionedImages, random_noise
from ldm.train.loop import Recipe, full_precision, mixed_precision, train
from ldm.train.processes import device, rank, slice_for_rank
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE, reparametrise

MIN_SNR = 5.0
CAPTION_DROPOUT = 0.1  # the probability of an empty caption, for guidance (Ho & Salimans 2022, alg. 1)
WHOLE_BATCH = slice(None)  # the rank slice of a single process


def random_timesteps(batch: int, steps: int, generator: torch.Generator) -> Int[Tensor, "b"]:
    """Random timesteps, one from each of `batch` equal intervals of [0, steps).

    This is stratified sampling: every training step sees all noise levels, so its gradient has a lower variance than
    with independent samples. (Kingma et al. 2021, appendix I, shift one grid by one random number for the same reason.)
    """
    t = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch * steps
    # In float32, 31 + 0.99999994 is 32, so the last one may round up to `steps`.
    return t.long().clamp(max=steps - 1)


def min_snr_weights(noise_config: NoiseConfig) -> Float[Tensor, "T"]:
    r"""The Min-SNR weight of the squared error at each timestep, normalised to mean 1.

    An error in $\epsilon$ changes the estimate of $x_0$ by $\mathrm{SNR}_t^{-1/2} =
    \sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$ times that error. A plain loss on $\epsilon$ would therefore spend the
    network's capacity on low noise levels, where errors are invisible. Instead, an error in $x_0$ gets the weight
    $\min(\mathrm{SNR}_t, 5)$. Expressed in $\epsilon$, v and $x_0$, the weights are

    $$w_t \propto \frac{\min(\mathrm{SNR}_t, 5)}{\mathrm{SNR}_t}, \qquad
      \frac{\min(\mathrm{SNR}_t, 5)}{\mathrm{SNR}_t + 1}, \qquad \min(\mathrm{SNR}_t, 5), \qquad
      \mathrm{SNR}_t = \frac{\bar\alpha_t}{1 - \bar\alpha_t}$$

    With zero terminal SNR, the weight for v and $x_0$ would be 0 at the last timestep, where sampling starts, and the
    network would learn nothing there. On such a schedule the clamp is applied to $\mathrm{SNR}_t + 1$ instead, which is
    the weight that a plain squared error in v gives an error in $x_0$. For v and $x_0$:

    $$w_t \propto \frac{\min(\mathrm{SNR}_t + 1, 5)}{\mathrm{SNR}_t + 1}, \qquad \min(\mathrm{SNR}_t + 1, 5)$$

    Source: Hang et al. 2023, section 3.4, who found that these weights make training several times faster. For zero
    terminal SNR we follow diffusers' training scripts, which add 1 for every model that predicts v.
    """
    alpha_bar = make_alpha_bar(noise_config)
    snr = alpha_bar / (1 - alpha_bar)
    x0_weight = (snr + 1 if noise_config.zero_snr else snr).clamp(max=MIN_SNR)
    weight = x0_weight / {"eps": snr, "v": snr + 1, "x0": torch.ones_like(snr)}[noise_config.prediction]
    return weight / weight.mean()


def diffusion_loss(
    unet: nn.Module,
    latents: Float[Tensor, "b z h w"],
    t: Int[Tensor, "b"],
    eps: Float[Tensor, "b z h w"],
    context: Float[Tensor, "b n d"],
    noise_config: NoiseConfig,
    importance: Float[Tensor, "b h w"] | None = None,
) -> Float[Tensor, ""]:
    r"""The mean squared error of the prediction, weighted by `min_snr_weights`:

    $$L = \mathbb E_{x_0, c, t, \epsilon}\, \frac{w_t}{n} \lVert \epsilon - \epsilon_\theta(x_t, t, c) \rVert^2$$

    for latents of n numbers; for v or x0, that target replaces $\epsilon$. Predicting zero gives a loss of about 1,
    because noise and latents have variance 1. Source: Ho et al. 2020, eq. 14, where $w_t = 1$ and the squares are
    summed. `importance` weighs the positions (see `importance.py`); without it, all count the same.
    """
    alpha_bar_t = make_alpha_bar(noise_config).to(t.device)[t]
    with mixed_precision():
        out = full_precision(unet(add_noise(latents, eps, alpha_bar_t), t, context))
    error = (out - training_target(noise_config.prediction, latents, eps, alpha_bar_t)).square().mean(dim=1)
    if importance is not None:
        error = error * importance
    weight = min_snr_weights(noise_config).to(t.device)[t]
    return (weight * error.mean(dim=(1, 2))).mean()


class EncodedImages:
    """Images and their latents, encoded once: the mean and log-variance of each."""

    @torch.no_grad()
    def __init__(self, vae: VAE, images: CaptionedImages):
        self.images = images
        starts = range(0, len(images), 50)
        bar = tqdm(starts, desc="encoding", unit_scale=50, unit="image", disable=rank() > 0)
        with mixed_precision():
            encoded = [vae.encode(images.batch(np.arange(i, min(i + 50, len(images))))) for i in bar]
        self.mean = torch.cat([full_precision(mean) for mean, _ in encoded])
        self.logvar = torch.cat([full_precision(logvar) for _, logvar in encoded])

    def sample(
        self, indices: np.ndarray, generator: torch.Generator, rank_slice: slice = WHOLE_BATCH
    ) -> Float[Tensor, "b z h w"]:
        """A new sample of the latents in the `rank_slice` of `indices`."""
        mean, logvar = self.mean[indices[rank_slice]], self.logvar[indices[rank_slice]]
        noise = random_noise((len(indices), *mean.shape[1:]), generator, rank_slice)
        return reparametrise(mean, logvar, noise)

    def importance(self, indices: np.ndarray) -> Float[Tensor, "b h w"] | None:
        """How much each position counts in the latents at `indices`; None if all count the same."""
        maps = self.images.importance
        return None if maps is None else torch.from_numpy(maps[indices]).to(self.mean)


class Networks(nn.Module):
    """What learns: the U-Net and the text encoder."""

    def __init__(self, unet: UNet, text: TextEncoder):
        super().__init__()
        self.unet, self.text = unet, text


def read_frozen(folder: Path) -> LatentDiffusion:
    """The model in `folder`, with trained text encoder and VAE and an untrained U-Net, all frozen."""
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
    caption_dropout: float,
    rank_slice: slice,
) -> Float[Tensor, ""]:
    """The loss on this process's `rank_slice` of a batch of `data`; `key` is (seed, step) and determines the batch.

    Every process draws the random numbers of the whole batch, in the same order.
    """
    seed, step = key
    rng, generator = np.random.default_rng([seed, step]), torch.Generator().manual_seed(seed * 10**9 + step)
    indices = rng.integers(len(data.images), size=batch)
    captions = data.images.captions(indices, rng)
    captions = [caption if rng.random() >= caption_dropout else "" for caption in captions]
    with mixed_precision():
        context = full_precision(model.encode_text(captions[rank_slice]).context)
    latents, importance = data.sample(indices, generator, rank_slice), data.importance(indices[rank_slice])
    t = random_timesteps(batch, model.config.noise.steps, generator)[rank_slice].to(device())
    eps = random_noise((batch, *latents.shape[1:]), generator, rank_slice)
    return diffusion_loss(unet, latents, t, eps, context, model.config.noise, importance)


def sample_prompts(model: LatentDiffusion, prompts: Sequence[str], path: Path) -> None:
    """Save a grid with a row for each prompt, generated in a few steps from the seeds 0 to 3."""
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
    start_from: Path | None = None,
) -> dict[str, float]:
    """Train the U-Net and the text encoder; the VAE stays frozen. Returns the metrics (in process 0).

    The U-Net begins with random weights, or with those of the model in the folder `start_from`: to train on with other
    data, or with the learning rate of a new run. Raises `LdmError` if that U-Net has other sizes.
    """
    model = read_frozen(folder)
    shown = read_frozen(folder)  # with the averaged weights
    torch.manual_seed(seed)
    unet = UNet(model.config.unet)
    trained = None if start_from is None else start_from / "unet.safetensors"
    if trained is not None:
        fill(unet, read_tensors(trained, torch.get_default_dtype()), trained)
    if compiled:
        unet.compile()  # unlike torch.compile, this keeps the names of the weights
    networks = Networks(unet, model.text.requires_grad_(True))
    train_latents, rank_slice = EncodedImages(model.vae, images), slice_for_rank(recipe.batch)
    # Images from the user's folder have captions, which serve as prompts.
    prompts = [s for s in held_out.scenes[:6] if isinstance(s, str)] or DEMO_PROMPTS

    def loss_at(step: int) -> Tensor:
        return batch_loss(model, unet, train_latents, (seed, step), recipe.batch, CAPTION_DROPOUT, rank_slice)

    def write_samples(average: Networks, path: Path) -> None:
        shown.unet, shown.text = average.unet, average.text
        sample_prompts(shown, prompts, path)

    identity: Identity = {
        "seed": seed,
        "pictures": images.identity,
        "config": fingerprint(folder / "config.json"),
        "tokenizer": fingerprint(folder / "tokenizer/merges.txt"),
        "vae.safetensors": fingerprint(folder / "vae.safetensors"),
        "start": "" if trained is None else fingerprint(trained),
    }
    average = train(networks, loss_at, recipe, run, resume, identity=identity, on_checkpoint=write_samples)
    if rank() > 0:
        return {}
    shown.unet, shown.text = average.unet, average.text
    write_tensors(folder / "unet.safetensors", shown.unet.state_dict())
    write_tensors(folder / "text.safetensors", shown.text.state_dict())
    with torch.no_grad():
        held_out_latents = EncodedImages(model.vae, held_out)
        # These step numbers lie far beyond any training step, so no random numbers are reused.
        keys = [(seed, 10**8 + i) for i in range(16)]
        losses = [
            batch_loss(shown, shown.unet, held_out_latents, key, 64, 0.0, WHOLE_BATCH).item() for key in keys
        ]
    return {"loss, held-out combinations": sum(losses) / len(losses)}
