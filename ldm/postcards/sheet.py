r"""Image grids: a grid of any images, and a contact sheet of the postcards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ldm.errors import LdmError
from ldm.postcards.draw import draw
from ldm.postcards.sampling import sample_scene
from ldm.postcards.scene import ANIMALS, PLACES, STYLES, THINGS, WEATHERS

COLUMNS = 8


def grid(images: Sequence[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    r"""Arrange images of one size in rows of `columns`, on white, with `gap` pixels between and around them.

    Raises LdmError if there are no images, no columns, or images of different sizes.
    """
    sizes = {image.size for image in images}
    if len(sizes) != 1 or columns < 1:
        raise LdmError(
            f"a grid of {len(images)} images of sizes {sorted(sizes)} in {columns} columns: "
            "expected at least one image, all of one size, and one column"
        )
    (width, height), rows = sizes.pop(), -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        sheet.paste(image, (gap + column * (width + gap), gap + row * (height + gap)))
    return sheet


def contact_sheet(size: int = 128) -> Image.Image:
    r"""A row for each place, and for each animal one before walls and one anywhere; images are `size` wide."""
    images: list[Image.Image] = []
    for world in (
        *((place,) for place in PLACES),
        *((a,) for a in ANIMALS),
        *((a, *PLACES) for a in ANIMALS),
    ):
        rng, subjects = np.random.default_rng([7, len(images)]), (*world, *THINGS, *WEATHERS, *STYLES)
        images += [draw(sample_scene(rng, subjects=subjects), rng, size) for _ in range(COLUMNS)]
    return grid(images, COLUMNS)
