r"""Inpainting: where the mask is black, the init image is kept.

**With any model** (Lugmayr et al. 2022, RePaint, without its resampling; Avrahami et al. 2023, blended latent
diffusion). Every step is taken for the whole latent. After it, the kept region is restored: the image's latent, noised
to the level just reached. So the network sees a complete image with the same noise level everywhere, and generates what
fits its surroundings.

**With an inpainting model** (the idea: Rombach et al. 2022, section 4.5; this form: Stable Diffusion's inpainting
checkpoints), which was trained to fill masked regions. Its U-Net takes nine channels: the latent, the mask, and the
latent of the masked image. It sees the kept region at every step, so nothing is restored between the steps, and what it
generates fits better; but it has to be trained for that.

A latent pixel covers 8x8 image pixels, and the decoder mixes neighbouring ones. So after decoding, the kept pixels are
pasted back, from the VAE's reconstruction of the image or from the image itself.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from einops import reduce
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from ldm.diffusion.level import Level
from ldm.diffusion.sample import OnStep, identity
from ldm.errors import LdmError
from ldm.image_to_image import InitImage
from ldm.images.pixels import to_pixels
from ldm.images.reading import fit_mask, fit_picture
from ldm.prompts import Group


def prepare_init(
    init: Image.Image | None,
    mask: Image.Image | None,
    size: tuple[int, int],
    encode: Callable[[Float[Tensor, "1 3 h w"]], Float[Tensor, "1 z h w"]],
    factor: int,
    is_inpainting: bool,
) -> InitImage | None:
    """The init image and its mask, fitted to `size` and encoded as a model needs them; None without an init image.

    Raises `LdmError` for an inpainting model without an init image or a mask.
    """
    if is_inpainting and (init is None or mask is None):
        raise LdmError(
            "this is an inpainting model: it fills the masked region of an image; give it an image and a mask, white "
            "where it may change it (`init` and `mask`; --init and --mask)"
        )
    if init is None:
        return None
    image = fit_picture(init, size)
    pixels = to_pixels([image])
    latent = encode(pixels)
    if mask is None:
        return InitImage(image, latent)
    mask = fit_mask(mask, size)
    if not is_inpainting:
        return InitImage(image, latent, mask)
    masked = encode(masked_image(pixels, mask))
    return InitImage(image, latent, mask, torch.cat([mask_channel(mask, factor).to(masked), masked], dim=1))


def with_channels(groups: list[Group], init: InitImage | None) -> list[Group]:
    """The encoded prompts with the channels that an inpainting model's U-Net reads besides the latent."""
    if init is None or init.channels is None:
        return groups
    return [
        (images, replace(cond, channels=init.channels), replace(uncond, channels=init.channels))
        for images, cond, uncond in groups
    ]


def restore_kept(init: InitImage | None, noise: Float[Tensor, "b z h w"], factor: int) -> OnStep:
    """The `OnStep` that restores the kept region; without a mask, `identity`.

    An inpainting model sees the kept region as input, so nothing is restored between its steps.
    """
    if init is None or init.mask is None or init.channels is not None:
        return identity
    repaint = repaint_mask(init.mask, factor).to(noise.device)
    return keep(init.latent.to(noise.dtype).expand_as(noise), noise, repaint)


def repaint_mask(mask: Image.Image, factor: int) -> Bool[Tensor, "1 1 h w"]:
    """True for each latent pixel that covers a white pixel of `mask` (black and white, as from `fit_mask`).

    One white pixel is enough: if its latent pixel were kept, it could not change.
    """
    white = np.asarray(mask) > 0
    return torch.from_numpy(reduce(white, "(h f) (w g) -> 1 1 h w", "max", f=factor, g=factor))


def keep(
    x0: Float[Tensor, "b z h w"], eps: Float[Tensor, "b z h w"], repaint: Bool[Tensor, "1 1 h w"]
) -> OnStep:
    r"""The `OnStep` that restores the image's latent `x0`, noised like the rest, except where `repaint` is set (m = 1):

    $$x \leftarrow m \odot x + (1 - m) \odot (\alpha\,x_0 + \sigma\,\epsilon)$$

    At a clean level that is $x_0$ itself. Source: Lugmayr et al. 2022, eq. 8, whose m is 1 where the image is known.
    They draw a fresh $\epsilon$ at each step; we reuse the initial noise, as diffusers does.
    """

    def restore(x: Tensor, level: Level) -> Tensor:
        return torch.where(repaint, x, level.mix(x0, eps))

    return restore


def paste_kept(
    pixels: Float[Tensor, "b 3 h w"],
    init: InitImage | None,
    decode: Callable[[Float[Tensor, "1 z h2 w2"]], Float[Tensor, "1 3 h w"]] | None,
) -> Float[Tensor, "b 3 h w"]:
    """The pixels with those of the kept region pasted back: its reconstruction by `decode`, or None: the original."""
    if init is None or init.mask is None:
        return pixels
    kept = to_pixels([init.image]) if decode is None else decode(init.latent)
    return torch.where(_white(init.mask).to(pixels.device), pixels, kept.to(pixels.device))


def masked_image(pixels: Float[Tensor, "b 3 h w"], mask: Image.Image) -> Float[Tensor, "b 3 h w"]:
    """What an inpainting model sees of the image: grey (0, in the middle of [-1, 1]) where the mask is white."""
    return torch.where(_white(mask), torch.zeros_like(pixels), pixels)


def mask_channel(mask: Image.Image, factor: int) -> Float[Tensor, "1 1 h w"]:
    """The mask as an inpainting U-Net reads it: 1 where it is white. The top-left pixel of each block decides.

    The model saw masks this way in training, so this differs from `repaint_mask`. Source: Stable Diffusion's
    inpainting script and diffusers' pipeline, which shrink the mask with nearest-neighbour interpolation.
    """
    return _white(mask)[::factor, ::factor].float()[None, None]


def _white(mask: Image.Image) -> Bool[Tensor, "h w"]:
    return torch.from_numpy(np.asarray(mask) > 0)
