r"""Latent diffusion, the four steps in order.

    prompt --text encoder--> context                    1. text becomes vectors
    seed   --random numbers--> x_T                      2. a latent of pure noise
    x_T    --U-Net and sampler, context--> x_0          3. the noise is taken away, step by step
    x_0    --VAE decoder--> picture                     4. the latent becomes pixels

Source: Rombach et al. 2022, figure 3.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ldm.config import Config
from ldm.diffusion.noise import noise_source
from ldm.diffusion.predict import guide, rescale_guidance, x0_and_eps
from ldm.diffusion.samplers import find_sampler
from ldm.diffusion.sampling import Denoise, Noise, Step, Time
from ldm.diffusion.schedule import make_alpha_bar
from ldm.errors import LdmError
from ldm.pixels import to_images
from ldm.text.encoder import TextEncoder
from ldm.text.tokenizer import Tokenizer
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE


class LatentDiffusion(nn.Module):
    """A text-to-image model: `text`, `unet` and `vae` are its networks, `tokenizer` its reader."""

    def __init__(self, config: Config, tokenizer: Tokenizer):
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.text = TextEncoder(config.text)
        self.unet = UNet(config.unet)
        self.vae = VAE(config.vae)

    @torch.no_grad()
    def generate(
        self,
        prompt: str,
        negative: str = "",
        *,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        seed: int | None = None,
        size: tuple[int, int] | None = None,
        batch: int = 1,
        progress: Callable[[Iterator[Step], int], Iterable[Step]] = lambda path, steps: path,
    ) -> list[Image.Image]:
        """Paint `batch` pictures of `prompt`, with the seeds seed, seed + 1, ...

        A seed that is not given is drawn at random, and nothing tells which it was: to make a picture again, give
        one. What else is left out is the model's own default (`config.defaults`): the `sampler` (a name from
        `ldm/diffusion/samplers.py`) and its `steps`, `guidance` (1: none), `size` as (width, height) in pixels.
        `negative` says what to move away from. `progress` is handed the steps as they come and their number, and
        hands them on: a place for a progress bar. Raises `LdmError` for values that the model cannot work with.
        """
        defaults = self.config.defaults
        steps = defaults.steps if steps is None else steps
        guidance = defaults.guidance if guidance is None else guidance
        sampler = defaults.sampler if sampler is None else sampler
        seed = random.randrange(2**31) if seed is None else seed
        if batch < 1:
            raise LdmError(f"a batch of {batch} pictures; expected at least 1")
        if not math.isfinite(guidance):
            raise LdmError(f"a guidance of {guidance}; expected a finite number, such as {defaults.guidance}")

        # 1. Text becomes vectors.
        cond, uncond = self.encode_text([prompt] * batch), self.encode_text([negative] * batch)
        # 2. A latent of pure noise. The sampler draws on from the same generators, if it needs more.
        noise = self.noise(range(seed, seed + batch), size or (defaults.size, defaults.size))
        latent = noise()
        # 3. The noise is taken away.
        path = self.sample(latent, self.denoiser(cond, uncond, guidance), noise, steps, sampler)
        for step in progress(path, steps):
            latent = step.x_prev
        # 4. The latent becomes pixels.
        return to_images(self.vae.decode(latent))

    def encode_text(self, prompts: Sequence[str]) -> Float[Tensor, "b n d"]:
        """Step 1: the context that the U-Net's cross-attention reads."""
        return self.text(self.tokenizer(list(prompts)).to(self.device))

    def noise(self, seeds: Sequence[int], size: tuple[int, int]) -> Noise:
        """Step 2: a source of latent noise for pictures of `size` (width, height), one seed a picture."""
        width, height = size
        factor = self.vae.factor
        if width % factor or height % factor or min(size) < factor:
            raise LdmError(f"a size of {width}x{height} pixels; both must be multiples of {factor}")
        shape = (self.config.vae.latent_channels, height // factor, width // factor)  # tensors: height first
        return noise_source(seeds, shape, self.dtype, self.device)

    def denoiser(
        self, cond: Float[Tensor, "b n d"], uncond: Float[Tensor, "b n d"], guidance: float
    ) -> Denoise:
        """Step 3, one look: the U-Net with this context and guidance, its output read as (x0, eps)."""
        context = torch.cat([uncond, cond])
        rescale = self.config.defaults.guidance_rescale

        @torch.no_grad()
        def denoise(x_t: Tensor, t: Time, alpha_bar_t: Tensor) -> tuple[Tensor, Tensor]:
            step = torch.tensor(t, device=x_t.device)
            if guidance == 1:
                out = self.unet(x_t, step, cond)
            else:  # both predictions in one batch
                out_uncond, out_cond = self.unet(torch.cat([x_t, x_t]), step, context).chunk(2)
                out = guide(out_uncond, out_cond, guidance)
                if rescale:
                    out = rescale_guidance(out, out_cond, rescale)
            return x0_and_eps(self.config.noise.prediction, out, x_t, alpha_bar_t)

        return denoise

    def sample(
        self, x_T: Float[Tensor, "b z h w"], denoise: Denoise, noise: Noise, steps: int, sampler: str
    ) -> Iterator[Step]:
        """Step 3, all of it: the sampler's steps, one by one, as an iterator."""
        chosen = find_sampler(sampler)
        path = chosen.path(steps, self.alpha_bar())
        return chosen.walk(denoise, chosen.begin(x_T, path), path, noise)

    def alpha_bar(self) -> Float[Tensor, "T"]:
        """The model's noise schedule, on its device and in its dtype, but never in half precision.

        bfloat16 has no number between 0.996 and 1, where the schedule begins: 1 - alpha_bar would be zero.
        (Single numbers of float32 leave the dtype of the latents they are multiplied with as it is.)
        """
        dtype = torch.promote_types(self.dtype, torch.float32)
        return make_alpha_bar(self.config.noise).to(device=self.device, dtype=dtype)

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype
