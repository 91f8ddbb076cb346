r"""The computations that values were published for, one function for each part of the model.

Each is called with the model and a reference's inputs and returns the whole output, of which the reference has a slice.
Published batches contain up to four images, and the slice is of one of them. Images of a batch do not affect one
another, so only that one is computed.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ldm.checkpoints.loaded import LoadedModel
from ldm.diffusion.level import vp_level
from ldm.diffusion.noise import image_size
from ldm.errors import LdmError
from ldm.lab.verify.inputs import is_recipe, make_input
from ldm.lab.verify.references import Reference
from ldm.pipeline import LatentDiffusion
from ldm.prompts import Group, with_micro, zero_empty
from ldm.vae.vae import reparametrise


def vae_decode(
    model: LatentDiffusion, latent: Float[Tensor, "1 z h w"], scale: float
) -> Float[Tensor, "1 3 h2 w2"]:
    r"""The pixels of an unscaled latent.

    The scale is the published one. The model's own would cancel out, and a model with a wrong one should fail.
    """
    return model.vae.decode(scale * latent)


def vae_encode(
    model: LatentDiffusion,
    pixels: Float[Tensor, "1 3 h w"],
    scale: float,
    noise: Float[Tensor, "1 z h2 w2"] | None = None,
) -> Float[Tensor, "1 z h2 w2"]:
    """The unscaled latent of an image in [-1, 1]: a sample of the encoder's Gaussian, or without noise its mean."""
    mean, logvar = model.vae.encode(pixels)
    return (mean if noise is None else reparametrise(mean, logvar, noise)) / scale


def vae_round_trip(
    model: LatentDiffusion,
    pixels: Float[Tensor, "1 3 h w"],
    scale: float,
    noise: Float[Tensor, "1 z h2 w2"] | None = None,
) -> Float[Tensor, "1 3 h w"]:
    """An image in [-1, 1] through encoder and decoder."""
    return vae_decode(model, vae_encode(model, pixels, scale, noise), scale)


def unet(
    model: LatentDiffusion, x_t: Float[Tensor, "1 c h w"], t: int, context: Float[Tensor, "1 n d"]
) -> Float[Tensor, "1 z h w"]:
    """One evaluation of the U-Net."""
    return model.unet(x_t, torch.tensor([t], device=x_t.device), context)


def latent(
    model: LatentDiffusion,
    x_T: Float[Tensor, "1 z h w"],
    prompt: str,
    sampler: str,
    steps: int,
    after: int,
    guidance: float = 7.5,
    last: str = "sampler",
    noise_seed: int | None = None,
) -> Float[Tensor, "1 z h w"]:
    r"""The latent after the first `after` of `steps` steps, with an empty negative prompt.

    The noise between steps, if the sampler draws any, is torch's for `noise_seed`, drawn on the CPU.
    `last` is the noise level at which the last step ends: the sampler's own, or "first", that of t = 0, where
    diffusers' DPM++ ended until 2024; its published values still do (`final_sigmas_type="sigma_min"`).
    """
    levels = model.levels(sampler, steps)
    if last == "first":
        levels = [*levels[:-1], vp_level(0, model.alpha_bar())]
    pairs: list[Group] = [(range(1), model.encode_text([prompt]), model.encode_text([""]))]
    if model.defaults.empty_negative == "zero":
        pairs = zero_empty(pairs, "")
    [(_, cond, uncond)] = with_micro(pairs, model.config.unet.added, image_size(x_T, model.vae.factor))
    denoise = model.denoiser(cond, uncond, guidance)
    x = model.initial_latents(sampler, x_T.to(model.sampling_dtype), levels)
    drawn = None if noise_seed is None else torch.Generator().manual_seed(noise_seed)

    def noise_fn(*_: object) -> Tensor:
        return torch.zeros_like(x) if drawn is None else torch.randn(x.shape, generator=drawn).to(x)

    sampling = model.sample(sampler, denoise, x, levels, noise_fn)
    for _, step in zip(range(after), tqdm(sampling, total=after, unit="step", leave=False, disable=None)):
        x = step.x_prev
    return x


def image(model: LatentDiffusion, steps: int, **inputs: Any) -> Float[Tensor, "1 h w 3"]:
    """A finished image in [0, 1], not rounded to 8 bits."""
    finished = latent(model, steps=steps, after=steps, **inputs)
    return rearrange((model.vae.decode(finished.to(model.dtype)) / 2 + 0.5).clamp(0, 1), "b c h w -> b h w c")


COMPONENTS: Mapping[str, Callable[..., Tensor]] = {
    "vae.decode": vae_decode,
    "vae.encode": vae_encode,
    "vae.round_trip": vae_round_trip,
    "unet": unet,
    "latent": latent,
    "image": image,
}
WITH_UNET = "unet", "latent", "image"


def parse_slices(part: str) -> tuple[int | slice, ...]:
    """Parse an index such as "-1, -2:, :2". Raises ValueError for anything else."""

    def one(text: str) -> int | slice:
        bounds = [int(bound) if bound.strip() else None for bound in text.split(":")]
        return int(text) if len(bounds) == 1 else slice(*bounds)

    return tuple(one(text) for text in part.split(","))


@torch.no_grad()
def compute(model: LatentDiffusion, reference: Reference, folder: Path | None = None) -> tuple[float, ...]:
    """This model's numbers for `reference`; files are read from `folder`."""
    if reference.component not in COMPONENTS:
        raise LdmError(
            f"{reference.name}: component {reference.component!r}; expected one of {', '.join(COMPONENTS)}"
        )
    index, *where = parse_slices(reference.part)
    inputs = dict(reference.inputs)
    if "lora" in inputs and folder is not None:
        if not isinstance(model, LoadedModel):
            raise LdmError(f"{reference.name}: it needs a LoRA in the model; expected one from `ldm.load`")
        lora = model.load_lora(folder / inputs.pop("lora")["name"])
        try:
            return compute(model, replace(reference, inputs=inputs), folder)
        finally:
            model.unload(lora)
    for name, value in reference.inputs.items():
        if is_recipe(value):  # the whole batch is made, because an image's noise depends on its index
            value = make_input(value, folder)[[index]].to(device=model.device, dtype=model.dtype)
        inputs[name] = value
    output = COMPONENTS[reference.component](model, **inputs)[0]
    return tuple(output[tuple(where)].flatten().tolist())
