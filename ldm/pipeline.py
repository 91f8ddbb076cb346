r"""Latent diffusion, the four steps in order.

    prompt --text encoder--> context                    1. text becomes vectors
    seed   --random numbers--> x_T                      2. a latent of pure noise
    x_T    --U-Net and sampler, context--> x_0          3. the noise is removed, step by step
    x_0    --VAE decoder--> image                       4. the latent becomes pixels

An image can take the place of part of the noise: see `image_to_image.py` and `inpaint.py`.

Source: Rombach et al. 2022, figure 3.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ldm.arguments import checked
from ldm.config import Config
from ldm.diffusion.conditioning import Conditioning, concatenate, count_images
from ldm.diffusion.finite import finite, finite_steps
from ldm.diffusion.guidance import classifier_free_guidance, rescale_guidance
from ldm.diffusion.level import CLEAN, Latent, Level, Time
from ldm.diffusion.noise import given_or_drawn, image_size, latent_shape, noise_source, pick_seeds
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.sample import (
    Callback,
    Denoise,
    NoiseFn,
    OnStep,
    Step,
    callback_then,
    identity,
    in_groups,
    sample,
)
from ldm.diffusion.samplers import find_sampler
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import initial_latents, sampler_levels
from ldm.errors import LdmError
from ldm.image_to_image import InitImage, levels_left, pick_strength
from ldm.images.pixels import to_images, to_pixels
from ldm.inpaint import composite, prepare, restore_kept
from ldm.text.encoder import TextEncoder
from ldm.text.prompt import encode_prompts, same_length
from ldm.text.tokenizer import Tokenizer
from ldm.unet.unet import UNet
from ldm.vae.tiles import decode_in_tiles, encode_in_tiles
from ldm.vae.vae import VAE

Prompt = str | Sequence[str] | Conditioning
Output = Literal["pil", "tensor", "latent"]
Progress = Callable[[Iterator[Step], int], Iterable[Step]]


class LatentDiffusion(nn.Module):
    """A text-to-image model: `text`, `unet` and `vae` are its networks; `tokenizer` turns text into their numbers."""

    def __init__(self, config: Config, tokenizer: Tokenizer):
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.text = TextEncoder(config.text)
        self.unet = UNet(config.unet)
        self.vae = VAE(config.vae)

    @checked
    @torch.no_grad()
    def generate(
        self,
        prompt: Prompt,
        negative: Prompt = "",
        *,
        steps: int | Sequence[Time] | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        spacing: str | None = None,
        eta: float | None = None,
        seed: int | Sequence[int] | None = None,
        size: tuple[int, int] | None = None,
        batch: int | None = None,
        latents: Tensor | None = None,
        init: Image.Image | None = None,
        strength: float | None = None,
        mask: Image.Image | None = None,
        keep_pixels: bool = False,
        weighting: bool = True,
        long_prompt: str = "truncate",
        tile: bool = False,
        output: Output = "pil",
        on_step: Callback = identity,
        progress: Progress = lambda sampling, steps: sampling,
    ) -> Any:
        """Generate images of `prompt`, moving away from what `negative` says.

        How many: one for each entry of a list (of prompts, negative prompts, seeds) and of `latents`, otherwise `batch`
        (1). Prompts may also be given encoded, as from `encode_text`. A seed is a whole number below 2**32; image i of
        several has the seed seed + i. If it is left out, or -1, it is drawn at random and not reported.

        Left out, these take the model's own values (`config.defaults`): the `sampler` (a name from
        `ldm/diffusion/samplers/table.py`) and its `steps` (`default_steps`; or a list of the timesteps themselves),
        `guidance` (1: none), and `size` as (width, height) in pixels. `spacing` (`ldm/diffusion/spacing.py`) replaces
        the sampler's usual one. `eta` is the amount of noise that DDIM adds, from 0 (the default) to 1. `latents`
        [b, z, h, w] is standard normal noise in place of what the seed would draw for the start.

        `init` is an init image (cropped and resized to `size`). `strength` in (0, 1] is the amount of noise it gets,
        and the fraction of the steps that is taken (0.75; with a mask 1). `mask` is white where the image may change:
        elsewhere the result is the VAE's reconstruction, or with `keep_pixels` the very pixels. An inpainting model
        needs both.

        With `weighting`, brackets say how much a word counts: `(word:1.3)`. A prompt that is too long is truncated, or
        with `long_prompt="chunk"` read in chunks (`ldm/text/prompt.py`). With `tile`, the VAE works in overlapping
        tiles, which saves memory for large images (`ldm/vae/tiles.py`).

        Returns a list of PIL images, or by `output` a "tensor" of pixels [b, 3, h, w], white at 1 and black at -1, or
        the "latent" before decoding.
        `on_step(x, level)` is called after each step with the latent and its noise level; what it returns, unless
        None, replaces x. `progress` gets the iterator over the steps and their number, and returns an iterable of them:
        a place for a progress bar.

        Raises `LdmError` for values that the model cannot work with, and when numbers stop being finite.
        """
        defaults = self.config.defaults
        guidance = defaults.guidance if guidance is None else guidance
        sampler = defaults.sampler if sampler is None else sampler
        steps = self.default_steps(sampler) if steps is None else steps
        if size is None:
            size = (defaults.size,) * 2 if latents is None else image_size(latents, self.vae.factor)
        strength = pick_strength(init, strength, mask, keep_pixels)
        count = count_images(batch, prompts=prompt, negatives=negative, seeds=seed, latents=latents)
        levels = self.levels(steps, sampler, strength, spacing)
        noise_fn = self.noise_fn(pick_seeds(seed, count), size)
        start = self.init_image(init, mask, size, tile)

        # 1. Text becomes vectors.
        channels = None if start is None else start.channels
        denoise = in_groups(
            [
                (places, self.denoiser(cond, uncond, guidance, channels))
                for places, cond, uncond in self.encode_pairs(prompt, negative, count, weighting, long_prompt)
            ]
        )
        # 2. A latent of pure noise, or an init image's latent under noise. (A sampler that needs more noise draws it
        # from the same generators.)
        noise = given_or_drawn(latents, noise_fn())
        x = self.initial_latents(noise, sampler, levels, start, strength)
        restore = restore_kept(start, noise, self.vae.factor)
        # 3. The noise is removed, step by step.
        sampling = self.sample(x, denoise, noise_fn, sampler, levels, callback_then(on_step, restore), eta)
        for step in progress(sampling, len(levels) - 1):
            x = step.x_prev
        # 4. The latent becomes pixels.
        x = restore(x, CLEAN)  # the kept region has no noise at the end
        if output == "latent":
            return x
        pixels = self.decode_pixels(x, tile)
        if start is not None and start.mask is not None:
            kept = to_pixels([start.image]) if keep_pixels else self.decode_pixels(start.latent, tile)
            pixels = composite(pixels, kept, start.mask)
        return pixels if output == "tensor" else to_images(pixels)

    # --- step 1 ----------------------------------------------------------------------------------------------

    @checked
    def encode_text(
        self, prompts: Sequence[str], weighting: bool = True, long_prompt: str = "truncate"
    ) -> Conditioning:
        """What the U-Net reads of some prompts: their contexts, all of one length, in the U-Net's dtype.

        With a `long_prompt` of "chunk" that is the length of the longest; the others are padded with empty chunks, and
        cross-attention reads these, too. To make a context independent of the others, encode it alone, as `generate`
        does.
        """

        def encode() -> Tensor:
            contexts = encode_prompts(self.text, self.tokenizer, prompts, weighting, long_prompt)
            return contexts.to(device=self.device, dtype=self.dtype)

        return Conditioning(finite(encode, self, "in the text's context"))

    def encode_pairs(
        self, prompt: Prompt, negative: Prompt, count: int, weighting: bool, long_prompt: str
    ) -> Iterator[tuple[Sequence[int], Conditioning, Conditioning]]:
        """What `count` prompts and negative prompts become, in groups of one length, each with its images' places."""
        if isinstance(prompt, Conditioning) or isinstance(negative, Conditioning):
            cond, uncond = (
                text
                if isinstance(text, Conditioning)
                else self.encode_text(listed(text), weighting, long_prompt)
                for text in (prompt, negative)
            )
            yield range(count), cond, uncond
            return
        prompts, negatives = listed(prompt), listed(negative)
        for places in same_length(self.tokenizer, prompts, negatives, count, weighting, long_prompt):
            some, others = (
                [texts[i] for i in places] if len(texts) > 1 else texts for texts in (prompts, negatives)
            )
            both = self.encode_text([*some, *others], weighting, long_prompt)
            yield places, both[: len(some)], both[len(some) :]

    # --- step 2 ----------------------------------------------------------------------------------------------

    @checked
    def noise_fn(self, seeds: Sequence[int], size: tuple[int, int]) -> NoiseFn:
        """A source of latent noise for images of `size` (width, height), one seed per image."""
        shape = latent_shape(size, self.config.vae.latent_channels, self.vae.factor)
        return noise_source(seeds, shape, self.sampling_dtype, self.device)

    @checked
    def levels(
        self, steps: int | Sequence[Time], sampler: str, strength: float = 1.0, spacing: str | None = None
    ) -> list[Level]:
        """The noise levels of a sampler's steps (or of a list of timesteps), and the one where the last step ends.

        From pure noise, or with a `strength` below 1 (image to image) only the last of the steps. `spacing` (see
        `ldm/diffusion/spacing.py`) replaces the sampler's usual one.
        """
        return levels_left(sampler_levels(find_sampler(sampler), steps, self.alpha_bar(), spacing), strength)

    @checked
    def default_steps(self, sampler: str) -> int:
        """The default number of steps of `sampler`: the model's own, or more if the sampler needs them."""
        defaults, asked = self.config.defaults, find_sampler(sampler)
        if asked is find_sampler(defaults.sampler):  # these two were chosen together
            return defaults.steps
        return max(defaults.steps, min(asked.min_default_steps, self.config.noise.steps - 1))

    def initial_latents(
        self,
        noise: Float[Tensor, "b z h w"],
        sampler: str,
        levels: Sequence[Level],
        start: InitImage | None = None,
        strength: float = 1.0,
    ) -> Float[Tensor, "b z h w"]:
        """The latents at the first of the `levels`: pure noise, or an init image's latent under that much noise.

        At strength 1 a trace of the image remains; behind a mask not even that, so that nothing of it shows through (as
        in diffusers).
        """
        if start is None or (start.mask is not None and strength == 1):
            return initial_latents(find_sampler(sampler), noise, levels)
        return levels[0].mix(start.latent.to(noise.dtype).expand_as(noise), noise)

    def encode_image(
        self, pixels: Float[Tensor, "b 3 h w"], tile: bool = False
    ) -> Float[Tensor, "b z h2 w2"]:
        """The latents of pixels in [-1, 1].

        Each is the mean of the VAE's Gaussian, so it is the same each time. (diffusers draws a sample; the Gaussian is
        so narrow that the difference hardly shows.)
        """
        encode = encode_in_tiles if tile else VAE.encode
        latents = finite(lambda: encode(self.vae, pixels)[0], self, "in the image's latent")
        return latents.to(device=self.device, dtype=self.sampling_dtype)

    def init_image(
        self, init: Image.Image | None, mask: Image.Image | None, size: tuple[int, int], tile: bool = False
    ) -> InitImage | None:
        """An init image and its mask as this model needs them: see `inpaint.py`."""
        is_inpainting = self.config.unet.in_channels > self.config.vae.latent_channels
        encode = partial(self.encode_image, tile=tile)
        return prepare(init, mask, size, encode, self.vae.factor, is_inpainting)

    # --- step 3 ----------------------------------------------------------------------------------------------

    def denoiser(
        self,
        cond: Conditioning,
        uncond: Conditioning,
        guidance: float,
        channels: Float[Tensor, "1 c h w"] | None = None,
    ) -> Denoise:
        """One model evaluation with guidance, the U-Net's output read as estimates (x0, eps).

        `channels` go beside the latent (an inpainting model's). Gradients flow through it, to x and the conditioning.
        Raises `LdmError` for a guidance that is not finite.
        """
        if not math.isfinite(guidance):
            usual = self.config.defaults.guidance
            raise LdmError(f"a guidance of {guidance}; expected a finite number, such as {usual}")
        if channels is not None:
            cond, uncond = replace(cond, channels=channels), replace(uncond, channels=channels)
        rescale = self.config.defaults.guidance_rescale

        def denoise(x_t: Latent, level: Level) -> tuple[Latent, Latent]:
            if guidance == 1:
                out = self.predict(x_t, level, cond)
            else:  # both predictions in one batch
                both = concatenate(uncond.expand(len(x_t)), cond.expand(len(x_t)))
                out_uncond, out_cond = self.predict(torch.cat([x_t, x_t]), level, both).chunk(2)
                out = classifier_free_guidance(out_uncond, out_cond, guidance)
                if rescale:
                    out = rescale_guidance(out, out_cond, rescale)
            return x0_and_eps(self.config.noise.prediction, out, x_t, level)

        return denoise

    def predict(self, x_t: Latent, level: Level, cond: Conditioning) -> Latent:
        """The U-Net's output, whatever it predicts. It computes in its own dtype: only here is anything cast to it."""
        cond = cond.expand(len(x_t))
        x_in = x_t if cond.channels is None else torch.cat([x_t, cond.channels.to(x_t.dtype)], dim=1)
        t = torch.tensor(level.t, dtype=torch.float32, device=x_t.device)
        return self.unet(x_in.to(self.dtype), t, cond.context, residuals=cond.residuals).to(x_t.dtype)

    def sample(
        self,
        x: Float[Tensor, "b z h w"],
        denoise: Denoise,
        noise_fn: NoiseFn,
        sampler: str,
        levels: Sequence[Level],
        on_step: OnStep = identity,
        eta: float | None = None,
    ) -> Iterator[Step]:
        """An iterator over the sampler's steps, from each of the `levels` to the next.

        `x` is at the first level, as from `initial_latents`. Raises `LdmError` at a step whose numbers are not finite,
        and for an `eta` with a sampler that has none.
        """
        update = find_sampler(sampler).with_eta(eta)
        sampling = partial(sample, update, x=x, levels=levels, noise_fn=noise_fn, on_step=on_step)
        return finite_steps(sampling, denoise, self, len(levels) - 1)

    # --- step 4 ----------------------------------------------------------------------------------------------

    def decode(self, latents: Float[Tensor, "b z h w"], tile: bool = False) -> list[Image.Image]:
        """The images of finished latents."""
        return to_images(self.decode_pixels(latents, tile))

    def decode_pixels(
        self, latents: Float[Tensor, "b z h w"], tile: bool = False
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Their pixels in [-1, 1], or slightly beyond; gradients flow through it."""
        decode = decode_in_tiles if tile else VAE.decode
        return finite(lambda: decode(self.vae, latents), self, "in the decoded image")

    # --- the model -------------------------------------------------------------------------------------------

    def alpha_bar(self) -> Float[Tensor, "T"]:
        """The model's noise schedule, on its device and in the sampler's dtype."""
        return make_alpha_bar(self.config.noise).to(device=self.device, dtype=self.sampling_dtype)

    @property
    def sampling_dtype(self) -> torch.dtype:
        """What latents and the noise schedule are computed in while sampling: the model's dtype, but at least float32.

        A sampler adds up many small steps, and each rounding stays in the latent. bfloat16 has no number between 0.996
        and 1, where the schedule begins: 1 - alpha_bar would be zero. Only the networks compute in half precision.
        """
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype


def listed(text: str | Sequence[str]) -> Sequence[str]:
    return [text] if isinstance(text, str) else text
