r"""Starting from an image instead of pure noise: image to image, and inpainting.

**Image to image** (Meng et al. 2022, SDEdit). Noise is added to the image's latent up to one of the lower levels, and
only the steps from there on are taken. Noise hides detail first and composition last, so the more noise, the less of
the image survives.

**Inpainting** (Lugmayr et al. 2022, RePaint, eq. 8, without its resampling). Every step is taken for the whole latent.
After it, the kept region is restored: the image's latent, noised to the level just reached. So the network always sees
a whole image under even noise, and generates what fits its surroundings.

A latent pixel covers many image pixels, and the decoder reads its neighbours too. So at the end the kept pixels are
restored as well, from the VAE's reconstruction of the image or from the image itself.

**An inpainting model** (Rombach et al. 2022, section 4.5) was trained to fill holes. Its U-Net takes nine channels: the
latent, the mask, and the latent of the masked image. It sees the kept region at every step, so nothing is restored
between the steps, and what it generates fits better; but it cannot do anything else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import reduce
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from ldm.diffusion.level import Level
from ldm.diffusion.sample import OnStep
from ldm.errors import LdmError


@dataclass(frozen=True)
class Original:
    """An init image, as a model needs it."""

    picture: Image.Image  # of the size that is generated
    latent: Float[Tensor, "1 z h w"]
    mask: Image.Image | None = None  # black and white, as from `fit_mask`: white where the image may change
    # The extra channels of an inpainting U-Net: the mask, then the latent of the masked image.
    beside: Float[Tensor, "1 c h w"] | None = None


def pick_strength(
    init: Image.Image | None, strength: float | None, mask: Image.Image | None, keep_pixels: bool
) -> float:
    """The strength asked for, or the default: 1 for pure noise and with a mask, otherwise 0.75.

    Raises `LdmError` for an option without the image, or the mask, that it belongs to.
    """
    if init is None and (mask is not None or strength is not None):
        given = "a mask" if mask is not None else f"a strength of {strength}"
        raise LdmError(f"{given}, but no picture to begin with; expected `init` as well")
    if mask is None and keep_pixels:
        raise LdmError("pixels to keep, but no mask; expected `mask`, white where the picture may change")
    if strength is None:
        return 0.75 if init is not None and mask is None else 1.0
    return strength


def levels_left(levels: Sequence[Level], strength: float) -> list[Level]:
    """The levels of image to image: those of the last steps, a fraction `strength` of them, rounded down.

    Of 20 steps at 0.75 the last 15 are taken, and the image is noised to the first of their levels: the one at which
    the network then sees it. Source: diffusers' StableDiffusionImg2ImgPipeline. (CompVis's script takes the same steps,
    but noises to the level before the first of them: one index too high, and at strength 1 there is none.)

    Raises `LdmError` for a strength outside (0, 1], and for one that leaves no step.
    """
    if not 0 < strength <= 1:
        raise LdmError(f"a strength of {strength}; expected more than 0 (unchanged), at most 1 (all new)")
    steps = len(levels) - 1
    left = int(steps * strength)
    if left == 0:
        enough = math.ceil(1000 / steps) / 1000
        raise LdmError(
            f"a strength of {strength} leaves none of {steps} steps; give at least {enough}, or more steps"
        )
    return list(levels[steps - left :])


def latents_to_repaint(mask: Image.Image, factor: int) -> Bool[Tensor, "1 1 h w"]:
    """True for each latent that covers a white pixel of `mask` (black and white, as from `fit_mask`).

    One white pixel is enough: if its latent were kept, it could not change.
    """
    white = np.asarray(mask) > 0
    return torch.from_numpy(reduce(white, "(h f) (w g) -> 1 1 h w", "max", f=factor, g=factor))


def keep(
    x0: Float[Tensor, "b z h w"], eps: Float[Tensor, "b z h w"], repaint: Bool[Tensor, "1 1 h w"]
) -> OnStep:
    r"""What to do after each step: where not to `repaint`, restore the image's latent `x0`, noised like the rest.

    $$x \leftarrow m \odot x + (1 - m) \odot (\alpha\,x_0 + \sigma\,\epsilon)$$

    with the same $\epsilon$ at every level; at a clean level, $x_0$ itself. Source: Lugmayr et al. 2022, eq. 8.
    """

    def restore(x: Tensor, level: Level) -> Tensor:
        return torch.where(repaint, x, level.mix(x0, eps))

    return restore


def without(pixels: Float[Tensor, "b 3 h w"], hole: Image.Image) -> Float[Tensor, "b 3 h w"]:
    """The masked image: grey (0, in the middle of [-1, 1]) where the mask `hole` is white."""
    return torch.where(torch.from_numpy(np.asarray(hole) > 0), torch.zeros_like(pixels), pixels)


def to_read(mask: Image.Image, factor: int) -> Float[Tensor, "1 1 h w"]:
    """The mask as an inpainting U-Net reads it: 1 where there is a hole. The first pixel of each latent decides.

    The model saw masks this way in training, so this differs from `latents_to_repaint`. Source: Stable Diffusion's
    inpainting script and diffusers' pipeline, which shrink the mask with nearest-neighbour interpolation.
    """
    return torch.from_numpy(np.asarray(mask)[::factor, ::factor] > 0).float()[None, None]
