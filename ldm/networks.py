r"""The networks of a latent diffusion model, and what each of them does on its own.

    text encoders   prompts                         -> the context, and all else that the U-Net reads
    U-Net           a noisy latent, its level, that -> estimates of the clean latent and of the noise
    VAE             an image in pixels             <-> a latent

Each method takes what the pipeline has at hand and gives what it needs next: numbers are cast to a network's dtype and
back, both predictions of guidance become one, and what is not finite is reported. In which order they are called,
`pipeline.py` says.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ldm.arguments import checked
from ldm.config import Config, Defaults
from ldm.diffusion.conditioning import Conditioning, concatenate, told_guidance
from ldm.diffusion.finite import finite
from ldm.diffusion.guidance import classifier_free_guidance, guidance_at, rescale_guidance
from ldm.diffusion.level import Latent, Level
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.sample import Denoise
from ldm.diffusion.schedule import make_alpha_bar
from ldm.errors import LdmError
from ldm.images.pixels import to_images
from ldm.text.encoder import TextEncoder
from ldm.text.joint import encode_jointly
from ldm.text.tokenizer import Tokenizer
from ldm.unet.deep_cache import DeepCache
from ldm.unet.unet import UNet
from ldm.vae.tiles import decode_in_tiles, encode_in_tiles
from ldm.vae.vae import VAE


class Networks(nn.Module):
    """The networks `text`, `unet` and `vae`, and a `tokenizer` that turns text into ids.

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

    # --- text ----------------------------------------------------------------------------------------------------

    @checked
    def encode_text(
        self,
        prompts: Sequence[str],
        weighting: bool = True,
        long_prompt: str = "truncate",
        clip_skip: int = 1,
    ) -> Conditioning:
        """Encode prompts into what the U-Net reads: contexts, padded to the same length (and pooled vectors, if any).

        With `weighting`, brackets say how much a word counts: `(word:1.3)`. A prompt that is too long is truncated, or
        with `long_prompt="chunk"` read in chunks (`ldm/text/prompt.py`). With a `clip_skip` above 1, the context is
        taken from an earlier layer of the text encoder; counted as in A1111, so 2 is diffusers' 1
        (`TextEncoder.encode`).

        In chunks, shorter prompts are padded with empty chunks, which cross-attention reads too. To
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

    # --- the U-Net -----------------------------------------------------------------------------------------------

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
        is_told = self.config.unet.guidance_width is not None
        check_guidance(guidance, interval, uncond, is_told)
        if is_told:
            cond, guidance = told_guidance(cond, guidance), 1.0
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

    # --- the VAE -------------------------------------------------------------------------------------------------

    def encode_image(
        self, pixels: Float[Tensor, "b 3 h w"], tile: bool = False
    ) -> Float[Tensor, "b z h2 w2"]:
        """The latents of pixels in [-1, 1]: the mean of the VAE's posterior, so the result is deterministic.

        (diffusers draws a sample of the posterior, which is so narrow that the difference hardly shows.)
        """
        encode = partial(encode_in_tiles, self.vae) if tile else self.vae.encode
        latents = finite(lambda: encode(pixels)[0], self, "in the image's latent")
        return latents.to(device=self.device, dtype=self.sampling_dtype)

    def decode(self, latents: Float[Tensor, "b z h w"], tile: bool = False) -> list[Image.Image]:
        """Decode denoised latents to PIL images."""
        return to_images(self.decode_pixels(latents, tile))

    def decode_pixels(
        self, latents: Float[Tensor, "b z h w"], tile: bool = False
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Decode denoised latents to pixels in [-1, 1], up to some overshoot. Differentiable, unless in tiles."""
        decode = partial(decode_in_tiles, self.vae) if tile else self.vae.decode
        return finite(lambda: decode(latents), self, "in the decoded image")

    # --- all of them ---------------------------------------------------------------------------------------------

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


def check_guidance(
    guidance: float, interval: tuple[float, float] | None, uncond: Conditioning | None, is_told: bool
) -> None:
    """Raise an `LdmError` for a guidance scale that cannot be used; `is_told`: the network reads it as an input."""
    if not math.isfinite(guidance):
        raise LdmError(f"a guidance of {guidance}; expected a finite number, such as 7.5")
    if is_told and interval is not None:
        raise LdmError(
            "a guidance interval with a latent consistency model, which is told the scale itself; leave it out"
        )
    if guidance != 1 and uncond is None and not is_told:
        raise LdmError(
            f"a guidance of {guidance} without `uncond`; expected the encoded negative or empty prompt"
        )
