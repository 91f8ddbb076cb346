r"""Latent diffusion, the four steps in order.

    prompt --text encoder--> context                    1. text becomes vectors
    seed   --random numbers--> x_T                      2. a latent of pure noise
    x_T    --U-Net and sampler, context--> x_0          3. the noise is removed, step by step
    x_0    --VAE decoder--> image                       4. the latent becomes pixels

An image can take the place of part of the noise: see `image_to_image.py` and `inpaint.py`. For images larger than the
model was trained at, see `windows.py` and `hires.py`.

Source: Rombach et al. 2022, figure 3.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ldm.arguments import checked
from ldm.config import Config, Defaults
from ldm.diffusion.brownian import with_paths
from ldm.diffusion.conditioning import Conditioning, ControlFn, concatenate, count_images, told_guidance
from ldm.diffusion.finite import finite, finite_steps
from ldm.diffusion.guidance import classifier_free_guidance, guidance_at, rescale_guidance
from ldm.diffusion.level import CLEAN, Latent, Level, Time
from ldm.diffusion.micro_conditioning import MicroConditioning
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
from ldm.diffusion.samplers import find_sampler, find_spacing
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import initial_latents, levels_between, sampler_levels
from ldm.errors import LdmError
from ldm.image_to_image import InitImage, last_levels, pick_strength
from ldm.images.pixels import to_images
from ldm.inpaint import paste_kept, prepare_init, restore_kept, with_channels
from ldm.prompts import Prompt, encode_pairs, with_control, with_micro, zero_empty
from ldm.text.encoder import TextEncoder
from ldm.text.joint import encode_jointly
from ldm.text.tokenizer import Tokenizer
from ldm.unet.deep_cache import DeepCache
from ldm.unet.unet import UNet
from ldm.vae.tiles import decode_in_tiles, encode_in_tiles, must_tile
from ldm.vae.vae import VAE
from ldm.windows import windowed

Output = Literal["pil", "tensor", "latent"]
EmptyNegative = Literal["encoded", "zero"]
Progress = Callable[[Iterator[Step], int], Iterable[Step]]


class LatentDiffusion(nn.Module):
    """A text-to-image model: the networks `text`, `unet` and `vae`, and a `tokenizer` that turns text into ids.

    `text_2`, a second text encoder, is None but for Stable Diffusion XL.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer):
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.text = TextEncoder(config.text)
        self.text_2 = None if config.text_2 is None else TextEncoder(config.text_2)
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
        `batch` says how many (1). Prompts may also be already encoded, by `encode_text`. A seed is a whole number
        below 2**32; from a single seed, image i uses seed + i. Without one (or with -1), the first seed is random.

        These default to the model's own values (`defaults`):
        - `sampler`: a name from `ldm/diffusion/samplers/table.py`;
        - `steps`: how many (`default_steps`), or a list of the timesteps themselves;
        - `guidance`: the guidance scale; at 1 there is none, and `negative` has no effect. A latent consistency model
          is told the scale instead, and `negative` never has an effect;
        - `size`: (width, height) in pixels.

        `spacing` overrides the sampler's choice of noise levels, by a name such as "trailing" or "karras"
        (`ldm/diffusion/spacing.py`). `eta`, from 0 to 1, is the noise that DDIM (default: 0), DPM++ 2M SDE (1) and TCD
        (0.3) add. `latents` [b, z, h, w] is the initial noise, standard normal, in place of the seed's.

        `init` is an init image, cropped and resized to `size`. `strength` in (0, 1] is the fraction of the steps that
        is taken, starting from the init image noised to the first of their levels (default: 0.75, or 1 with a mask).
        `mask` is white where the image may change; elsewhere the result is the VAE's reconstruction, or with
        `keep_pixels` the original pixels. An inpainting model needs both `init` and `mask`.

        Two models can share the sampling, as Stable Diffusion XL and its refiner do: with `stop` below 1, the first
        ends after that share of the way, and returns latents with noise left in them (`output="latent"`). The second
        goes on with these `latents` from a `start` of the same share (`levels_between` in `ldm/diffusion/spacing.py`).

        With `weighting`, brackets say how much a word counts: `(word:1.3)`. A prompt that is too long is truncated, or
        with `long_prompt="chunk"` read in chunks (`ldm/text/prompt.py`). With a `clip_skip` above 1, the context is
        taken from an earlier layer of the text encoder, for the negative prompt too; counted as in A1111, so 2 is
        diffusers' 1 (`TextEncoder.encode`). An empty negative prompt is "encoded" like any other, or becomes "zero", as
        `empty_negative` says (default: the model's own way). `micro` is what Stable Diffusion XL is told about sizes
        and crop (`ldm/diffusion/micro_conditioning.py`); `negative_micro`, by default the same, goes with the negative
        prompt. `control` is one or several ControlNets with their images (`ldm/adapters/control.py`). With `tile`, the
        VAE works in overlapping tiles, which saves memory (`ldm/vae/tiles.py`; default: on a CPU, for images of
        1024 x 1024 pixels and more). With a `window`, a number of pixels, the U-Net works in overlapping windows of
        that side: for images far larger than the model's own size (`ldm/windows.py`).

        Two options save time: `guidance_interval` (low, high), noise levels outside which there is no guidance
        (`guidance_at` in `ldm/diffusion/guidance.py`); and `reuse`, with which only one evaluation of the U-Net in so
        many is whole (`ldm/unet/deep_cache.py`).

        `on_step(x, level)` is called after each step with the latents and the noise level that they are at; what it
        returns, unless None, replaces x. `progress(steps, count)` wraps the iterator over the steps, as tqdm does.

        Returns a list of PIL images; with `output="tensor"`, pixels [b, 3, h, w] in [-1, 1]; with `output="latent"`,
        the latents before decoding. Raises `LdmError` for values that the model cannot work with, and when numbers stop
        being finite.
        """
        defaults = self.defaults
        guidance = defaults.guidance if guidance is None else guidance
        sampler = defaults.sampler if sampler is None else sampler
        steps = self.default_steps(sampler) if steps is None else steps
        size = size or ((defaults.size,) * 2 if latents is None else image_size(latents, self.vae.factor))
        tile = must_tile(size, self.device) if tile is None else tile
        strength = pick_strength(init, strength, mask, keep_pixels)
        if output == "latent" and keep_pixels:
            raise LdmError('keep_pixels with output="latent", which has no pixels; leave one of the two out')
        if (start > 0 and (latents is None or init is not None)) or (stop < 1 and output != "latent"):
            raise LdmError(
                f"a start of {start} and a stop of {stop}; expected `latents` to start from (and no `init`), and "
                'output="latent" to stop early'
            )
        count = count_images(batch, prompts=prompt, negatives=negative, seeds=seed, latents=latents)
        levels = self.levels(sampler, steps, strength, spacing)
        if start > 0 or stop < 1:
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
        denoisers = [
            (images, self.denoiser(cond, uncond, guidance, interval=guidance_interval, reuse=reuse))
            for images, cond, uncond in pairs
        ]
        denoise = in_groups(denoisers)
        if window is not None:
            if reuse is not None:
                raise LdmError(
                    "a `window` with `reuse`: features of one window are not another's; leave one out"
                )
            denoise = windowed(denoise, window, self.vae.factor, [cond for _, cond, _ in pairs])
        # 2. A latent of pure noise, or a noised init image.
        noise = given_or_drawn(latents, noise_fn())
        x = noise
        if start == 0:
            x = self.initial_latents(sampler, noise, levels, init_image, strength, spacing)
        # 3. The noise is removed, step by step. (A sampler that needs more noise draws it from the same generators.)
        restore = restore_kept(init_image, noise, self.vae.factor)
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

    # --- step 1 ----------------------------------------------------------------------------------------------

    @checked
    def encode_text(
        self,
        prompts: Sequence[str],
        weighting: bool = True,
        long_prompt: str = "truncate",
        clip_skip: int = 1,
    ) -> Conditioning:
        """Encode prompts into what the U-Net reads: contexts, padded to the same length (and pooled vectors, if any).

        With `long_prompt="chunk"`, shorter prompts are padded with empty chunks, which cross-attention reads too. To
        avoid that, encode each prompt alone, as `generate` does.
        """

        encode = partial(encode_jointly, self.encoders(), self.tokenizer, prompts, weighting)
        context, pooled = finite(lambda: encode(long_prompt, clip_skip), self, "in the text's context")
        return Conditioning(context, pooled=pooled)

    def encoders(self) -> list[tuple[TextEncoder, int]]:
        """The text encoders, each with the id of the token that pads its prompts."""
        found = [(self.text, self.tokenizer.pad_id)]
        if self.text_2 is not None and self.config.text_2 is not None:
            found.append((self.text_2, self.tokenizer.padding(self.config.text_2.pad)))
        return found

    # --- step 2 ----------------------------------------------------------------------------------------------

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

        Even at strength 1, a trace of the init image remains. With a mask, strength 1 starts from pure noise instead,
        as in diffusers, so that nothing of what is masked shows through.
        """
        if init_image is None or (init_image.mask is not None and strength == 1):
            return initial_latents(find_sampler(sampler), noise, levels, spacing and find_spacing(spacing))
        return levels[0].mix(init_image.latent.to(noise.dtype).expand_as(noise), noise)

    def encode_image(
        self, pixels: Float[Tensor, "b 3 h w"], tile: bool = False
    ) -> Float[Tensor, "b z h2 w2"]:
        """The latents of pixels in [-1, 1]: the mean of the VAE's posterior, so the result is deterministic.

        (diffusers draws a sample of the posterior, which is so narrow that the difference hardly shows.)
        """
        encode = partial(encode_in_tiles, self.vae) if tile else self.vae.encode
        latents = finite(lambda: encode(pixels)[0], self, "in the image's latent")
        return latents.to(device=self.device, dtype=self.sampling_dtype)

    def init_image(
        self, init: Image.Image | None, mask: Image.Image | None, size: tuple[int, int], tile: bool = False
    ) -> InitImage | None:
        """An init image and its mask as this model needs them: see `inpaint.py`."""
        # Besides the latent, an inpainting U-Net reads a latent of the masked image, and a mask.
        is_inpainting = self.config.unet.in_channels == 2 * self.config.vae.latent_channels + 1
        encode = partial(self.encode_image, tile=tile)
        return prepare_init(init, mask, size, encode, self.vae.factor, is_inpainting)

    # --- step 3 ----------------------------------------------------------------------------------------------

    def denoiser(
        self,
        cond: Conditioning,
        uncond: Conditioning | None = None,
        guidance: float = 1.0,
        guidance_rescale: float | None = None,
        interval: tuple[float, float] | None = None,
        reuse: int | None = None,
    ) -> Denoise:
        """A function (x_t, level) -> (x0, eps): the U-Net with classifier-free guidance, read as estimates of both.

        `uncond`, the conditioning on the negative or empty prompt, may be left out at a guidance of 1, which means no
        guidance. A latent consistency model is told the guidance instead, and needs no `uncond` at any.
        `guidance_rescale` defaults to the model's own; `interval` and `reuse` are as in `generate`. The function is
        differentiable with respect to x_t and the conditioning. Raises `LdmError` for a guidance that is not finite, or
        that needs an `uncond` and has none.
        """
        if not math.isfinite(guidance):
            usual = self.config.defaults.guidance
            raise LdmError(f"a guidance of {guidance}; expected a finite number, such as {usual}")
        if self.config.unet.guidance_width:
            if interval is not None:
                raise LdmError(
                    "a guidance interval with a latent consistency model, which is told the scale itself; leave it out"
                )
            cond, guidance = told_guidance(cond, guidance), 1.0
        if guidance != 1 and uncond is None:
            raise LdmError(
                f"a guidance of {guidance} without `uncond`; expected the encoded negative or empty prompt"
            )
        rescale = self.config.defaults.guidance_rescale if guidance_rescale is None else guidance_rescale
        unet = self.unet if reuse is None else DeepCache(self.unet, reuse)

        def denoise(x_t: Latent, level: Level) -> tuple[Latent, Latent]:
            scale = guidance_at(level, guidance, interval)
            if scale == 1 or uncond is None:
                out = self.predict(x_t, level, cond, unet)
            else:  # both predictions in one batch
                both = concatenate(uncond.expand(len(x_t)), cond.expand(len(x_t)))
                out_uncond, out_cond = self.predict(torch.cat([x_t, x_t]), level, both, unet).chunk(2)
                out = classifier_free_guidance(out_uncond, out_cond, scale)
                if rescale:
                    out = rescale_guidance(out, out_cond, rescale)
            return x0_and_eps(self.config.noise.prediction, out, x_t, level)

        return denoise

    def predict(
        self, x_t: Latent, level: Level, cond: Conditioning, unet: UNet | DeepCache | None = None
    ) -> Latent:
        """The U-Net's raw output. Its inputs are cast to its dtype here, and nowhere else.

        `unet` may take the place of the model's own.
        """
        cond = cond.expand(len(x_t))
        x_in = x_t if cond.channels is None else torch.cat([x_t, cond.channels.to(x_t)], dim=1)
        t = torch.tensor(level.t, dtype=torch.float32, device=x_t.device)
        context = cond.context.to(x_t.device, self.dtype)
        residuals = () if cond.residuals is None else cond.residuals(x_t, level, cond)
        more: dict[str, Any] = {"residuals": [r.to(context) for r in residuals]}
        if cond.pooled is not None:
            more["pooled"] = cond.pooled.to(context)
        if cond.micro is not None:  # not in half precision, which has no 1,025
            more["micro"] = cond.micro.to(x_t.device)
        if cond.w is not None:
            more["w"] = cond.w.to(x_t.device)
        out = (self.unet if unet is None else unet)(x_in.to(self.dtype), t, context, **more)
        return out.to(x_t.dtype)

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

    # --- step 4 ----------------------------------------------------------------------------------------------

    def decode(self, latents: Float[Tensor, "b z h w"], tile: bool = False) -> list[Image.Image]:
        """Decode denoised latents to PIL images."""
        return to_images(self.decode_pixels(latents, tile))

    def decode_pixels(
        self, latents: Float[Tensor, "b z h w"], tile: bool = False
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Decode denoised latents to pixels in [-1, 1], up to some overshoot. Differentiable, unless in tiles."""
        decode = partial(decode_in_tiles, self.vae) if tile else self.vae.decode
        return finite(lambda: decode(latents), self, "in the decoded image")

    # --- the model -------------------------------------------------------------------------------------------

    @property
    def defaults(self) -> Defaults:
        """The settings for generating an image that the caller does not give."""
        return self.config.defaults

    def alpha_bar(self) -> Float[Tensor, "T"]:
        """The model's noise schedule, on its device and in the sampler's dtype."""
        return make_alpha_bar(self.config.noise).to(device=self.device, dtype=self.sampling_dtype)

    @property
    def sampling_dtype(self) -> torch.dtype:
        """The dtype of latents and the noise schedule while sampling: the model's, but at least float32.

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
