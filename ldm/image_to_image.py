r"""Image to image: starting from an image instead of pure noise.

Noise is added to the image's latent up to one of the lower levels, and only the remaining steps are run. Noise hides
detail (high frequencies) first and composition last, so the more noise, the less of the image survives.

Source: Meng et al. 2022 (SDEdit).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ldm.diffusion.level import Level
from ldm.errors import LdmError


@dataclass(frozen=True)
class InitImage:
    """The image that generation starts from, encoded; with a mask for inpainting (`inpaint.py`)."""

    image: Image.Image  # of the size that is generated
    latent: Float[Tensor, "1 z h w"]
    mask: Image.Image | None = None  # black and white, as from `fit_mask`: white where the image may change
    # The extra channels of an inpainting U-Net: the mask, then the latent of the masked image.
    channels: Float[Tensor, "1 c h w"] | None = None


def pick_strength(
    init: Image.Image | None, strength: float | None, mask: Image.Image | None, keep_pixels: bool
) -> float:
    """The strength asked for, or the default: 0.75 for an init image without a mask, otherwise 1.

    Raises `LdmError` for a mask or strength without an init image, and for `keep_pixels` without a mask.
    """
    if init is None and (mask is not None or strength is not None):
        given = "a mask" if mask is not None else f"a strength of {strength}"
        raise LdmError(f"{given}, but no init image; expected `init` as well")
    if mask is None and keep_pixels:
        raise LdmError("keep_pixels, but no mask; expected `mask`, white where the image may change")
    if strength is None:
        return 0.75 if init is not None and mask is None else 1.0
    return strength


def last_levels(levels: Sequence[Level], strength: float) -> list[Level]:
    """The levels for image to image: those of the last `int(steps * strength)` steps.

    Of 20 steps at 0.75 the last 15 are run, and the image is noised to the first of their levels, at which the network
    then sees it. Source: diffusers' StableDiffusionImg2ImgPipeline. (CompVis's script runs the same steps, but noises
    to the next noisier level: off by one, and at strength 1 there is no such level.)

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
