r"""From a scene to a picture: painted several times too large, then reduced, which smooths every edge."""

from __future__ import annotations

from math import ceil

import numpy as np
from PIL import Image

from ldm.errors import LdmError
from ldm.postcards.attributes import Landscape, Scene
from ldm.postcards.landscape import landscape
from ldm.postcards.portrait import portrait

SMALLEST = 16
_OVERSAMPLING = 4
_PAINTED_AT_LEAST = 256


def draw(scene: Scene, rng: np.random.Generator, size: int = 64, doubled: bool = False) -> Image.Image:
    r"""Paint `scene` as an RGB image of `size` x `size` pixels.

    The same generator state gives the same drawing at every size: all that is random is drawn in units of the
    picture's width. `doubled` paints what no postcard shows and a painter may get wrong: the feature of a
    landscape twice, or an animal with a second pair of eyes or with a second head.
    Raises LdmError if `size` is below 16, where nothing could be recognised, or for a double of nothing.
    """
    if size < SMALLEST:
        raise LdmError(f"a postcard of {size} pixels: expected at least {SMALLEST}")
    if doubled and isinstance(scene, Landscape) and scene.feature == "nothing":
        raise LdmError(f"{scene} has nothing that could be doubled: expected a scene with a feature")
    factor = max(_OVERSAMPLING, ceil(_PAINTED_AT_LEAST / size))
    paint = landscape if isinstance(scene, Landscape) else portrait
    return paint(scene, rng, size * factor, doubled).reduce(factor)  # type: ignore[arg-type]
