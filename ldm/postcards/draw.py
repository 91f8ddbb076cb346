r"""Drawing: render a scene at several times its size, then downsample, which antialiases every edge."""

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
_MIN_RENDER_SIZE = 256


def draw(scene: Scene, rng: np.random.Generator, size: int = 64, doubled: bool = False) -> Image.Image:
    r"""Draw `scene` as an RGB image of `size` x `size` pixels.

    The same generator state gives the same drawing at every size: all random quantities are in units of the
    image width. `doubled` draws an error that generated images may show but postcards never do: a landscape's
    feature twice, or an animal with a second pair of eyes or a second head.
    Raises LdmError if `size` is below 16, where nothing is recognisable, or if there is no feature to double.
    """
    if size < SMALLEST:
        raise LdmError(f"postcard size {size}: expected at least {SMALLEST} pixels")
    if doubled and isinstance(scene, Landscape) and scene.feature == "nothing":
        raise LdmError(f"{scene} has no feature to double: expected a scene with a feature")
    factor = max(_OVERSAMPLING, ceil(_MIN_RENDER_SIZE / size))
    render = landscape if isinstance(scene, Landscape) else portrait
    return render(scene, rng, size * factor, doubled).reduce(factor)  # type: ignore[arg-type]
