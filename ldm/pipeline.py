r"""Latent diffusion, the four steps in order.

    prompt --text encoder--> context                    1. text becomes vectors
    seed   --random numbers--> x_T                      2. a latent of pure noise
    x_T    --U-Net and sampler, context--> x_0          3. the noise is taken away, step by step
    x_0    --VAE decoder--> image                       4. the latent becomes pixels

An image can take the place of part of the noise: see `repaint.py`.

Source: Rombach et al. 2022, figure 3.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ldm.arguments import checked
from ldm.config import Config
from ldm.diffusion.finite import finite, finite_steps
from ldm.diffusion.guidance import classifier_free_guidance, rescale_guidance
from ldm.diffusion.level import CLEAN, Level
from ldm.diffusion.noise import noise_source, pick_seed
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.sample import Denoise, NoiseFn, OnStep, Step, identity, in_groups, sample
from ldm.diffusion.samplers import find_sampler
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import initial_latents, sampler_levels
from ldm.errors import LdmError
from ldm.images.pixels import to_images, to_pixels
from ldm.images.reading import fit_mask, fit_picture
from ldm.repaint import Original, keep, latents_to_repaint, levels_left, pick_strength, to_read, without
from ldm.text.encoder import TextEncoder
from ldm.text.prompt import encode_prompts, same_length
from ldm.text.tokenizer import Tokenizer
from ldm.unet.unet import UNet
from ldm.vae.tiles import decode_in_tiles, encode_in_tiles
from ldm.vae.vae import VAE

MOST_PIXELS = 2**26  # who asks for more has mistyped: not a sixteenth of it fits into a graphics card


def pick_batch(prompt: str | Sequence[str], batch: int | None) -> int:
    """How many pictures: as many as asked for, else one of each prompt. Raises `LdmError` for less than one."""
    if batch is not None and not isinstance(prompt, str):
        raise LdmError(
            f"a batch of {batch} with a list of prompts, of which each gives one picture; leave `batch` out, and "
            "name a prompt as often as it is wanted"
        )
    count = 1 if isinstance(prompt, str) else len(prompt)
    batch = count if batch is None else batch
    if batch < 1:
        raise LdmError(f"a batch of {batch} pictures; expected at least 1")
    return batch


class LatentDiffusion(nn.Module):
    """A text-to-image model: `text`, `unet` and `vae` are its networks, `tokenizer` its reader."""

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
        prompt: str | Sequence[str],
        negative: str = "",
        *,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        seed: int | None = None,
        size: tuple[int, int] | None = None,
        batch: int | None = None,
        init: Image.Image | None = None,
        strength: float | None = None,
        mask: Image.Image | None = None,
        keep_pixels: bool = False,
        weighting: bool = True,
        long_prompt: str = "truncate",
        tile: bool = False,
        progress: Callable[[Iterator[Step], int], Iterable[Step]] = lambda sampling, steps: sampling,
    ) -> list[Image.Image]:
        """Generate `batch` images of `prompt`, with the seeds seed, seed + 1, ...; for a list of prompts, one of each.

        A seed is a whole number below 2**32. If it is left out, or -1, it is drawn at random and not reported: to get
        an image again, give one. Other options default to the model's own (`config.defaults`): the `sampler` (a name
        from `ldm/diffusion/samplers/table.py`) and its `steps` (`default_steps`), `guidance` (1: none), and `size` as
        (width, height) in pixels. `negative` says what to move away from. `progress` gets the iterator over the steps
        and their number, and returns an iterable of the steps: a place for a progress bar.

        `init` is an init image (fitted to `size`: see `inputs.py`). `strength` in (0, 1] is the amount of noise it
        gets, and the fraction of the steps that is taken (0.75; with a mask 1). `mask` is white where the image may
        change: elsewhere the result is the VAE's reconstruction of it, or with `keep_pixels` the very pixels. An
        inpainting model, whose U-Net reads image and mask, needs both.

        With `weighting`, brackets say how much a word counts: `(word:1.3)`. A prompt that is too long is truncated, or
        with `long_prompt="chunk"` read in chunks (`ldm/text/prompt.py`). With `tile`, the VAE works in overlapping
        tiles, which saves memory for large images (`ldm/vae/tiles.py`).

        Raises `LdmError` for values that the model cannot work with, and when numbers stop being finite.
        """
        defaults = self.config.defaults
        guidance = defaults.guidance if guidance is None else guidance
        sampler = defaults.sampler if sampler is None else sampler
        steps = self.default_steps(sampler) if steps is None else steps
        size = size or (defaults.size, defaults.size)
        strength = pick_strength(init, strength, mask, keep_pixels)
        prompts = [prompt] if isinstance(prompt, str) else prompt
        batch = pick_batch(prompt, batch)
        seed = pick_seed(seed, batch)
        levels = self.levels(steps, sampler, strength)
        noise_fn = self.noise_fn(range(seed, seed + batch), size)
        original = self.original(init, mask, size, tile)

        # 1. Text becomes vectors. Pictures whose contexts are not equally long are denoised apart.
        groups = []
        for places in same_length(self.tokenizer, prompts, negative, weighting, long_prompt):
            contexts = self.encode_text([*(prompts[i] for i in places), negative], weighting, long_prompt)
            count = batch if isinstance(prompt, str) else len(places)
            cond, uncond = (part.expand(count, -1, -1) for part in (contexts[:-1], contexts[-1:]))
            groups.append((places, self.denoiser(cond, uncond, guidance, original)))
        # 2. A latent of pure noise, or an image's latent under noise. A sampler that needs more noise draws it from the
        # same generators.
        latent, on_step = self.initial_latents(noise_fn(), sampler, levels, original, strength)
        # 3. The noise is taken away.
        sampling = self.sample(latent, in_groups(groups), noise_fn, sampler, levels, on_step)
        for step in progress(sampling, len(levels) - 1):
            latent = step.x_prev
        # 4. The latent becomes pixels.
        latent = on_step(latent, CLEAN)  # the kept region has no noise at the end
        images = self.decode(latent, tile)
        return images if original is None else self.put_back(images, original, keep_pixels, tile)

    @checked
    def encode_text(
        self, prompts: Sequence[str], weighting: bool = True, long_prompt: str = "truncate"
    ) -> Float[Tensor, "b n d"]:
        """Step 1: the contexts that the U-Net's cross-attention reads, all of one length, in the U-Net's dtype.

        With a `long_prompt` of "chunk" it is that of the longest; the others are filled up with empty chunks, and these
        are read, too: to make a context independent of the others, encode it apart, as `generate` does.
        """

        def encode() -> Tensor:
            contexts = encode_prompts(self.text, self.tokenizer, prompts, weighting, long_prompt)
            return contexts.to(device=self.device, dtype=self.dtype)

        return finite(encode, self, "in the text's context")

    @checked
    def noise_fn(self, seeds: Sequence[int], size: tuple[int, int]) -> NoiseFn:
        """Step 2: a source of latent noise for images of `size` (width, height), one seed per image."""
        width, height = size
        factor = self.vae.factor
        if width % factor or height % factor or min(size) < factor:
            near = "x".join(str(max(factor, round(pixels / factor) * factor)) for pixels in size)
            raise LdmError(
                f"a size of {width}x{height} pixels; both must be multiples of {factor}, such as {near}"
            )
        if width * height > MOST_PIXELS:
            raise LdmError(
                f"a size of {width}x{height} pixels; expected at most {MOST_PIXELS:,} pixels in all"
            )
        shape = (self.config.vae.latent_channels, height // factor, width // factor)  # tensors: height first
        return noise_source(seeds, shape, self.sampling_dtype, self.device)

    def denoiser(
        self,
        cond: Float[Tensor, "b n d"],
        uncond: Float[Tensor, "b n d"],
        guidance: float,
        original: Original | None = None,
    ) -> Denoise:
        """Step 3, one model evaluation: the U-Net with this context and guidance, its output read as (x0, eps).

        The U-Net computes in its own dtype: its input is cast to that, and its output back to the latent's. An
        inpainting U-Net also reads the mask and the masked image of `original`. Raises `LdmError` for a guidance that
        is not finite.
        """
        if not math.isfinite(guidance):
            usual = self.config.defaults.guidance
            raise LdmError(f"a guidance of {guidance}; expected a finite number, such as {usual}")
        context = torch.cat([uncond, cond])
        rescale = self.config.defaults.guidance_rescale
        beside = None if original is None else original.beside

        @torch.no_grad()
        def denoise(x_t: Tensor, level: Level) -> tuple[Tensor, Tensor]:
            t = torch.tensor(level.t, dtype=torch.float32, device=x_t.device)
            seen = x_t if beside is None else torch.cat([x_t, beside.expand(len(x_t), -1, -1, -1)], dim=1)
            seen = seen.to(self.dtype)
            if guidance == 1:
                out = self.unet(seen, t, cond).to(x_t.dtype)
            else:  # both predictions in one batch
                both = self.unet(torch.cat([seen, seen]), t, context).to(x_t.dtype)
                out_uncond, out_cond = both.chunk(2)
                out = classifier_free_guidance(out_uncond, out_cond, guidance)
                if rescale:
                    out = rescale_guidance(out, out_cond, rescale)
            return x0_and_eps(self.config.noise.prediction, out, x_t, level)

        return denoise

    @torch.no_grad()
    def encode_picture(
        self, picture: Image.Image, tile: bool = False, hole: Image.Image | None = None
    ) -> Float[Tensor, "1 z h w"]:
        """Before step 2, with an init image: its latent, or with a `hole` the latent of the masked image.

        It is the mean of the VAE's Gaussian, so it is the same each time. (diffusers draws a sample; the Gaussian is so
        narrow that the difference hardly shows.)
        """
        pixels = to_pixels([picture]) if hole is None else without(to_pixels([picture]), hole)
        encode = encode_in_tiles if tile else VAE.encode
        latent = finite(lambda: encode(self.vae, pixels)[0], self, "in the picture's latent")
        return latent.to(device=self.device, dtype=self.sampling_dtype)

    def original(
        self, init: Image.Image | None, mask: Image.Image | None, size: tuple[int, int], tile: bool = False
    ) -> Original | None:
        """Before step 2: the init image and its mask, as this model needs them; None without an init image.

        Raises `LdmError` for an inpainting model without an init image or a mask.
        """
        is_inpainting = self.config.unet.in_channels > self.config.vae.latent_channels
        if is_inpainting and (init is None or mask is None):
            raise LdmError(
                "this is an inpainting model: it fills a hole in a picture; give it a picture and a mask, white where "
                "the hole is (`init` and `mask`; --init and --mask)"
            )
        if init is None:
            return None
        picture = fit_picture(init, size)
        latent = self.encode_picture(picture, tile)
        if mask is None:
            return Original(picture, latent)
        hole = fit_mask(mask, size)
        if not is_inpainting:
            return Original(picture, latent, hole)
        rest = self.encode_picture(picture, tile, hole)
        return Original(
            picture, latent, hole, torch.cat([to_read(hole, self.vae.factor).to(rest), rest], dim=1)
        )

    @checked
    def default_steps(self, sampler: str) -> int:
        """The default number of steps of `sampler`: the model's own, or more if the sampler needs them."""
        defaults, asked = self.config.defaults, find_sampler(sampler)
        if asked is find_sampler(defaults.sampler):  # these two were chosen together
            return defaults.steps
        return max(defaults.steps, min(asked.usual_steps, self.config.noise.steps - 1))

    @checked
    def levels(
        self, steps: int, sampler: str, strength: float = 1.0, spacing: str | None = None
    ) -> list[Level]:
        """The noise levels of a sampler's steps, and the one where the last step ends.

        From pure noise, or with a `strength` below 1 (image to image) only the last of the steps. `spacing` (see
        `ldm/diffusion/spacing.py`) replaces the sampler's usual one.
        """
        return levels_left(sampler_levels(find_sampler(sampler), steps, self.alpha_bar(), spacing), strength)

    def initial_latents(
        self,
        eps: Float[Tensor, "b z h w"],
        sampler: str,
        levels: Sequence[Level],
        original: Original | None = None,
        strength: float = 1.0,
    ) -> tuple[Float[Tensor, "b z h w"], OnStep]:
        """Step 2: the latents at the first of the `levels`, and what to do to them after each step.

        Pure noise; or an image's latent, with the noise of the first level. At strength 1 a trace of the image remains;
        behind a mask not even that, so that nothing of it shows through (as in diffusers). An inpainting model sees the
        kept region for itself, so nothing is restored between its steps.
        """
        if original is None:
            return initial_latents(find_sampler(sampler), eps, levels), identity
        x0 = original.latent.to(eps.dtype).expand_as(eps)
        x_t = levels[0].mix(x0, eps)
        if original.mask is None:
            return x_t, identity
        start = initial_latents(find_sampler(sampler), eps, levels) if strength == 1 else x_t
        if original.beside is not None:
            return start, identity
        repaint = latents_to_repaint(original.mask, self.vae.factor).to(self.device)
        return start, keep(x0, eps, repaint)

    def sample(
        self,
        x: Float[Tensor, "b z h w"],
        denoise: Denoise,
        noise_fn: NoiseFn,
        sampler: str,
        levels: Sequence[Level],
        on_step: OnStep = identity,
    ) -> Iterator[Step]:
        """Step 3, all of it: an iterator over the sampler's steps from each of the `levels` to the next.

        `x` is at the first level, as from `initial_latents`. Raises `LdmError` at a step whose numbers are not finite.
        """
        update = find_sampler(sampler).update
        return finite_steps(
            lambda watched: sample(update, watched, x, levels, noise_fn, on_step),
            denoise,
            self,
            len(levels) - 1,
        )

    @torch.no_grad()
    def decode(self, latent: Float[Tensor, "b z h w"], tile: bool = False) -> list[Image.Image]:
        """Step 4: the images of finished latents."""
        decode = decode_in_tiles if tile else VAE.decode
        return to_images(finite(lambda: decode(self.vae, latent), self, "in the decoded picture"))

    def put_back(
        self, images: Sequence[Image.Image], original: Original, keep_pixels: bool = False, tile: bool = False
    ) -> list[Image.Image]:
        """After step 4: where the mask is black, the VAE's reconstruction of the init image, or its very pixels."""
        if original.mask is None:
            return list(images)
        kept = original.picture if keep_pixels else self.decode(original.latent, tile)[0]
        return [Image.composite(image, kept, original.mask) for image in images]

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
