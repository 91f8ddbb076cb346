r"""Pictures on white paper become pictures on the page's own: no white slab on a dark page.

Sheets and plots come on white, with titles and axes. Their pictures stay as they are; elsewhere white becomes
transparent, a colour is what it was before white was mixed into it, and black becomes a grey that can be read on light
and on dark. On a white page, all but that grey looks as before.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from sphinx.application import Sphinx

WHITE = 246  # from here on a channel counts as paper
THIN = 9  # what is thinner than this many pixels is a letter or a line, not a picture
INK = (129, 123, 114)


def without_paper(image: Image.Image) -> Image.Image | None:
    """The picture with a transparent background; None if it does not stand on white."""
    pixels = np.asarray(image.convert("RGB")).astype(float)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).min(axis=-1)
    if np.mean(edge >= WHITE) < 0.9:
        return None
    low, high = pixels.min(axis=-1), pixels.max(axis=-1)
    alpha = (1.5 * (1 - low / 255)).clip(
        0, 1
    )  # a colour keeps its lightness, and only its soft edges are thinned
    colour = (
        255 - (255 - pixels) / np.maximum(alpha, 1e-6)[..., None]
    )  # what, mixed with white, gives the pixel
    grey = high - low < 24
    colour[grey] = INK
    inside = pictures(low < WHITE)
    colour[inside], alpha[inside] = pixels[inside], 1
    rgba = np.concatenate([colour.clip(0, 255), 255 * alpha[..., None]], axis=-1)
    return Image.fromarray(rgba.round().astype(np.uint8), "RGBA")


def pictures(inked: np.ndarray) -> np.ndarray:
    """Where the pictures are: the rectangles around whatever is not thin."""
    found = np.zeros_like(inked)
    thick = Image.fromarray((255 * inked).astype(np.uint8)).filter(ImageFilter.MinFilter(THIN))
    small = np.asarray(thick.reduce(4)) > 127  # a quarter of the size is exact enough to find them
    for top, left, bottom, right in components(small):
        box = [max(0, 4 * n - THIN // 2 - 4) for n in (top, left)] + [
            4 * n + THIN // 2 + 4 for n in (bottom, right)
        ]
        part = inked[box[0] : box[2], box[1] : box[3]]
        rows, columns = (np.flatnonzero(part.mean(axis=axis) > 0.3) for axis in (1, 0))
        if len(rows) and len(columns):
            found[
                box[0] + rows[0] : box[0] + rows[-1] + 1, box[1] + columns[0] : box[1] + columns[-1] + 1
            ] = True
            # What is mostly white at one end, as a mask may be, reaches at least as far as its ink.
            reach = 2 - THIN // 2
            found[
                max(0, 4 * top + reach) : 4 * bottom - reach, max(0, 4 * left + reach) : 4 * right - reach
            ] = True
    return found


def components(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The boxes (top, left, bottom, right) around regions whose pixels touch."""
    boxes, left = [], mask.copy()
    while left.any():
        stack = [tuple(np.argwhere(left)[0])]
        left[stack[0]] = False
        points = []
        while stack:
            y, x = stack.pop()
            points.append((y, x))
            for a, b in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= a < mask.shape[0] and 0 <= b < mask.shape[1] and left[a, b]:
                    left[a, b] = False
                    stack.append((a, b))
        (top, west), (bottom, east) = np.min(points, axis=0), np.max(points, axis=0) + 1
        boxes.append((int(top), int(west), int(bottom), int(east)))
    return boxes


def clear_images(app: "Sphinx", error: Exception | None) -> None:
    """Do this to all pictures that pages show; one that was done before does not stand on white any more."""
    if error or app.builder.format != "html":
        return
    for file in sorted((Path(app.outdir) / "_images").glob("*.png")):
        with Image.open(file) as image:
            cleared = (
                None if image.mode == "RGBA" and image.getextrema()[3][0] < 255 else without_paper(image)
            )
        if cleared:
            cleared.save(file)


def setup(app: "Sphinx") -> None:
    app.connect("build-finished", clear_images)
