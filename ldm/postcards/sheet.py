r"""Image grids: a grid of any images, and a contact sheet of the postcards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ldm.errors import LdmError
from ldm.postcards.attributes import (
    ACCESSORIES,
    ANIMALS,
    BACKGROUNDS,
    FEATURES,
    FURS,
    PLACES,
    PLACES_WITH_WATER,
    RELIEFS,
    TIMES,
    Landscape,
    Portrait,
    Scene,
)
from ldm.postcards.draw import draw

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
    r"""A row for each place and each animal, cycling through the other attributes; images are `size` wide."""
    images = [draw(scene, np.random.default_rng([7, i]), size) for i, scene in enumerate(_tour())]
    return grid(images, COLUMNS)


def _tour() -> list[Scene]:
    scenes: list[Scene] = []
    for place in PLACES:
        features = [f for f in FEATURES if f != "boat" or place in PLACES_WITH_WATER]
        for i in range(COLUMNS):
            scenes.append(Landscape(place, RELIEFS[i % 3], TIMES[i % 4], features[(i - 1) % len(features)]))
    for row, animal in enumerate(ANIMALS):
        for i in range(COLUMNS):
            colours = FURS[(i + row) % len(FURS)], BACKGROUNDS[(3 * i + row) % len(BACKGROUNDS)]
            scenes.append(Portrait(animal, colours[0], ACCESSORIES[i % 4], colours[1]))
    return scenes
