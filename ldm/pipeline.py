r"""Latent diffusion, the four steps in order.

    prompt --text encoder--> context                    1. text becomes vectors
    seed   --random numbers--> x_T                      2. a latent of pure noise
    x_T    --U-Net and sampler, context--> x_0          3. the noise is removed, step by step
    x_0    --VAE decoder--> image                       4. the latent becomes pixels

An image can take the place of part of the noise: see `image_to_image.py` and `inpaint.py`. For images larger than the
model was trained at, see `windows.py` and `hires.py`.

Source: Rombach et al. 2022, figure 3.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ldm.arguments import checked
from ldm.config import Defaults
from ldm.diffusion.brownian import with_paths
from ldm.diffusion.conditioning import ControlFn, count_images
from ldm.diffusion.finite import finite_steps
from ldm.diffusion.level import CLEAN, Level, Time
from ldm.diffusion.micro_conditioning import MicroConditioning
from ldm.diffusion.noise import given_or_drawn, image_size, latent_shape, noise_source, pick_seeds
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
from ldm.diffusion.samplers import find_sampler, find_spacing
from ldm.diffusion.spacing import initial_latents, levels_between, sampler_levels
from ldm.image_to_image import InitImage, last_levels, pick_strength
from ldm.images.pixels import to_images
from ldm.inpaint import paste_kept, prepare_init, restore_kept, with_channels
from ldm.networks import Networks
from ldm.options import check_options
from ldm.prompts import Prompt, encode_pairs, with_control, with_micro, zero_empty
from ldm.vae.tiles import must_tile
from ldm.windows import windowed

Output = Literal["pil", "tensor", "latent"]
EmptyNegative = Literal["encoded", "zero"]
Progress = Callable[[Iterator[Step], int], Iterable[Step]]


class LatentDiffusion(Networks):
    """A text-to-image model: its networks, and the order in which they make an image."""

    @checked
    @torch.no_grad()
    def generate(
        self,
        prompt: Prompt,
        negative: Prompt = "",
        *,
        steps: int | Sequence[Time] | None = None,
        guidance: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        sampler: str | None = None,
        spacing: str | None = None,
        eta: float | None = None,
        seed: int | Sequence[int] | None = None,
        size: tuple[int, int] | None = None,
        batch: int | None = None,
        latents: Tensor | None = None,
        init: Image.Image | None = None,
        strength: float | None = None,
        start: float = 0.0,
        stop: float = 1.0,
        mask: Image.Image | None = None,
        keep_pixels: bool = False,
        weighting: bool = True,
        long_prompt: str = "truncate",
        clip_skip: int = 1,
        empty_negative: EmptyNegative | None = None,
        micro: MicroConditioning | None = None,
        negative_micro: MicroConditioning | None = None,
        control: ControlFn | Sequence[ControlFn] = (),
        tile: bool | None = None,
        window: int | None = None,
        reuse: int | None = None,
        output: Output = "pil",
        on_step: Callback = identity,
        progress: Progress = lambda sampling, steps: sampling,
    ) -> Any:  # a list of images or a tensor: `output` decides
        """Generate images from a prompt, guided away from a negative prompt.

        A list of prompts, negative prompts or seeds, or a batch of `latents`, gives one image per entry; otherwise
        `batch` says how many (1). What is left out of `sampler`, `steps`, `guidance`, `size` and `empty_negative` is
        the model's own (`defaults`).

        The sampling (`ldm/diffusion/`):
        - `steps`: how many (`default_steps`), or a list of the timesteps themselves;
        - `guidance`: the guidance scale; at 1 there is none, and `negative` has no effect. A latent consistency model
          is told the scale instead, and `negative` never has an effect;
        - `guidance_interval`: (low, high), the noise levels outside which there is no guidance (`guidance.py`);
        - `sampler`, and a `spacing` in place of its own: by name (`samplers/table.py`, `spacing.py`);
        - `eta`: from 0 to 1, the noise that DDIM (default: 0), DPM++ 2M SDE (1) and TCD (0.3) add;
        - `seed`: a whole number below 2**32; from a single one, image i uses seed + i. Without one (or with -1), the
          first is random. `latents` [b, z, h, w] are the initial noise, standard normal, in place of the seed's;
        - `start`, `stop`: shares of the way, for two models in turn (`ldm/refiner.py`). The first stops early, and
          returns latents with noise left in them (`output="latent"`); from these `latents` the second starts;
        - `reuse`: only one evaluation of the U-Net in so many is whole (`ldm/unet/deep_cache.py`).

        The image:
        - `size`: (width, height) in pixels;
        - `init`: an init image, cropped and resized to that size. `strength` in (0, 1] is the fraction of the steps
          that is taken, from the image noised to the first of their levels (default: 0.75, or 1 with a mask);
        - `mask`: white where the init image may change; elsewhere the result is the VAE's reconstruction of it, or with
          `keep_pixels` the original pixels. An inpainting model needs both images;
        - `control`: one or several ControlNets with their images (`ldm/adapters/control.py`);
        - `tile`: the VAE works in tiles, which saves memory (default: on a CPU, from 1024 x 1024 pixels on); `window`:
          the U-Net works in windows of so many pixels, for images far larger than the model's own (`ldm/windows.py`).

        The text (`ldm/text/prompt.py`):
        - prompts may be encoded already, by `encode_text`, which explains `weighting`, `long_prompt` and `clip_skip`;
        - `empty_negative`: an empty negative prompt is "encoded" like any other, or becomes "zero";
        - `micro`: what Stable Diffusion XL is told about sizes and crop (`ldm/diffusion/micro_conditioning.py`);
          `negative_micro`, by default the same, goes with the negative prompt.

        `on_step(x, level)` is called after each step with the latents and the noise level that they are at; what it
        returns, unless None, replaces x. `progress(steps, count)` wraps the iterator over the steps, as tqdm does.

        Returns a list of PIL images; with `output="tensor"`, pixels [b, 3, h, w] in [-1, 1]; with `output="latent"`,
        the latents before decoding. Raises `LdmError` for values that the model cannot work with, and when numbers stop
        being finite.
        """
        check_options(output, latents, init, keep_pixels, start, stop, window, reuse)
        defaults, factor = self.defaults, self.vae.factor
        guidance = defaults.guidance if guidance is None else guidance
        sampler = defaults.sampler if sampler is None else sampler
        steps = self.default_steps(sampler) if steps is None else steps
        size = size or ((defaults.size,) * 2 if latents is None else image_size(latents, factor))
        tile = must_tile(size, self.device) if tile is None else tile
        strength = pick_strength(init, strength, mask, keep_pixels)
        count = count_images(batch, prompts=prompt, negatives=negative, seeds=seed, latents=latents)
        levels = self.levels(sampler, steps, strength, spacing)
        levels = levels_between(levels, start, stop, self.config.noise.steps)
        noise_fn = self.noise_source(pick_seeds(seed, count), size)
        init_image = self.init_image(init, mask, size, tile)

        # 1. Text becomes vectors, which the U-Net reads (and with them what else it reads: see `Conditioning`).
        pairs = encode_pairs(
            self.encode_text, self.tokenizer, prompt, negative, count, weighting, long_prompt, clip_skip
        )
        if (empty_negative or defaults.empty_negative) == "zero":
            pairs = zero_empty(pairs, negative)
        pairs = with_micro(pairs, self.config.unet.added, size, micro, negative_micro)
        pairs = with_channels(pairs, init_image)
        pairs = with_control(pairs, control, levels, size)
        # 2. A latent of pure noise, or a noised init image.
        x = noise = given_or_drawn(latents, noise_fn())
        if start == 0:
            x = self.initial_latents(sampler, noise, levels, init_image, strength, spacing)
        # 3. The noise is removed, step by step. (A sampler that needs more noise draws it from the same generators.)
        guided = partial(self.denoiser, guidance=guidance, interval=guidance_interval, reuse=reuse)
        denoise = in_groups([(images, guided(cond, uncond)) for images, cond, uncond in pairs])
        if window is not None:
            denoise = windowed(denoise, window, factor, [cond for _, cond, _ in pairs])
        restore = restore_kept(init_image, noise, factor)
        after_step = callback_then(on_step, restore)
        sampling = self.sample(sampler, denoise, x, levels, noise_fn, after_step, eta)
        for step in progress(sampling, len(levels) - 1):
            x = step.x_prev
        x = restore(x, CLEAN)  # some samplers leave a little noise, which the kept region should not have
        if output == "latent":
            return x
        # 4. The latent becomes pixels; those outside a mask are kept.
        decode = partial(self.decode_pixels, tile=tile)
        pixels = paste_kept(decode(x), init_image, None if keep_pixels else decode)
        return pixels if output == "tensor" else to_images(pixels)

    # --- the levels and the noise of steps 2 and 3 -----------------------------------------------------------

    @checked
    def noise_source(self, seeds: Sequence[int], size: tuple[int, int]) -> NoiseFn:
        """A function that draws latent noise for images of `size` (width, height), one seed per image.

        Called with two levels, it returns the noise between them on each image's Brownian path (`brownian.py`).
        """
        shape = latent_shape(size, self.config.vae.latent_channels, self.vae.factor)
        fresh = noise_source(seeds, shape, self.sampling_dtype, self.device)
        return with_paths(fresh, seeds, shape, self.sampling_dtype, self.device)

    @checked
    def levels(
        self, sampler: str, steps: int | Sequence[Time], strength: float = 1.0, spacing: str | None = None
    ) -> list[Level]:
        """The noise levels that a sampler visits: one for each of its steps (or timesteps), and a final one.

        With a `strength` below 1 (image to image), only the last ones. `spacing` (see `ldm/diffusion/spacing.py`)
        overrides the sampler's own.
        """
        return last_levels(sampler_levels(find_sampler(sampler), steps, self.alpha_bar(), spacing), strength)

    @checked
    def default_steps(self, sampler: str, defaults: Defaults | None = None) -> int:
        """The default number of steps of `sampler`: the model's own, or more if the sampler needs them."""
        defaults, asked = defaults or self.defaults, find_sampler(sampler)
        if asked == find_sampler(defaults.sampler):  # the model's default steps were chosen for this one
            return defaults.steps
        return max(defaults.steps, min(asked.min_default_steps, self.config.noise.steps - 1))

    def initial_latents(
        self,
        sampler: str,
        noise: Float[Tensor, "b z h w"],
        levels: Sequence[Level],
        init_image: InitImage | None = None,
        strength: float = 1.0,
        spacing: str | None = None,
    ) -> Float[Tensor, "b z h w"]:
        """The latents at the first of the `levels`: pure noise, or the init image noised to that level.

        Even at strength 1 a trace of the init image remains, unless the schedule ends in pure noise. With a mask,
        strength 1 starts from pure noise instead, as in diffusers, so that nothing of what is masked shows through.
        """
        if init_image is None or (init_image.mask is not None and strength == 1):
            return initial_latents(find_sampler(sampler), noise, levels, spacing and find_spacing(spacing))
        return levels[0].mix(init_image.latent.to(noise.dtype).expand_as(noise), noise)

    def init_image(
        self, init: Image.Image | None, mask: Image.Image | None, size: tuple[int, int], tile: bool = False
    ) -> InitImage | None:
        """An init image and its mask as this model needs them: see `inpaint.py`."""
        # Besides the latent, an inpainting U-Net reads a latent of the masked image, and a mask.
        is_inpainting = self.config.unet.in_channels == 2 * self.config.vae.latent_channels + 1
        encode = partial(self.encode_image, tile=tile)
        return prepare_init(init, mask, size, encode, self.vae.factor, is_inpainting)

    def sample(
        self,
        sampler: str,
        denoise: Denoise,
        x: Float[Tensor, "b z h w"],
        levels: Sequence[Level],
        noise_fn: NoiseFn,
        on_step: OnStep = identity,
        eta: float | None = None,
    ) -> Iterator[Step]:
        """Run the sampler from each of the `levels` to the next, yielding each step.

        `x` is at the first level, as from `initial_latents`. Raises `LdmError` at a step whose numbers are not finite,
        and for an `eta` with a sampler that has none.
        """
        update = find_sampler(sampler).with_eta(eta)
        sampling = partial(sample, update, x=x, levels=levels, noise_fn=noise_fn, on_step=on_step)
        return finite_steps(sampling, denoise, self, len(levels) - 1)
