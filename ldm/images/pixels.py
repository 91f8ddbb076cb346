r"""Between pictures and tensors: 8-bit RGB on one side, [-1, 1] on the other."""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ldm.errors import LdmError


def to_pixels(images: Sequence[Image.Image]) -> Float[Tensor, "b 3 h w"]:
    """Pictures of one size to float32 in [-1, 1]; any mode is read as RGB. Raises `LdmError` for mixed sizes."""
    sizes = sorted({image.size for image in images})
    if len(sizes) != 1:
        raise LdmError(
            f"pictures of the sizes {sizes}; expected one or more of one size, so resize them first"
        )
    arrays = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return rearrange(torch.from_numpy(arrays), "b h w c -> b c h w").float() / 127.5 - 1


def to_images(pixels: Float[Tensor, "b 3 h w"]) -> list[Image.Image]:
    """[-1, 1] to pictures: clipped, and rounded to the nearest of 256 values."""
    unit = (pixels.detach().float() / 2 + 0.5).clamp(0, 1)
    arrays = rearrange((unit * 255).round().to(torch.uint8).cpu(), "b c h w -> b h w c").numpy()
    return [Image.fromarray(array) for array in arrays]
