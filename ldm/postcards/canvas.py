r"""The canvas: flat shapes in unit coordinates, which can be moved, scaled, rotated and mirrored as a group.

x runs from 0 (left) to 1 (right) and y from 0 (top) to 1 (bottom) whatever the size in pixels, so a scene looks the
same at every size. A boat or a face is drawn around its own origin; `Canvas.at` puts it in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import cos, sin

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from ldm.postcards.colour import INK, Colour, Real, rgb

Points = Sequence[tuple[Real, Real]] | np.ndarray

_TURN = np.linspace(0, 2 * np.pi, 36, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)

_STEP = np.arange(6)[:, None] / 6
# Catmull-Rom weights of four control points, at 6 steps between the middle two.
_SPLINE = 0.5 * np.concatenate([-_STEP + 2 * _STEP**2 - _STEP**3, 2 - 5 * _STEP**2 + 3 * _STEP**3,
    _STEP + 4 * _STEP**2 - 3 * _STEP**3, -(_STEP**2) + _STEP**3], axis=1)  # fmt: skip


def smooth(points: Points) -> np.ndarray:
    r"""A closed curve through all the points (Catmull-Rom): (n, 2) -> (6 n, 2)."""
    p = np.asarray(points, float)
    around = np.stack([np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)], axis=1)
    return np.einsum("sk,nkx->nsx", _SPLINE, around).reshape(-1, 2)


def ridge(heights: Sequence[Real], left: Real = -0.02, right: Real = 1.02) -> np.ndarray:
    r"""The area below a smooth skyline through evenly spaced heights, down to the lower edge of the image."""
    at = np.linspace(0, len(heights) - 1, 8 * len(heights))
    low = np.minimum(at.astype(int), len(heights) - 2)
    ease = (1 - np.cos(np.pi * (at - low))) / 2
    h = np.asarray(heights, float)
    skyline = np.stack([np.linspace(left, right, len(at)), h[low] * (1 - ease) + h[low + 1] * ease], axis=1)
    return np.concatenate([skyline, [(right, 1.02), (left, 1.02)]])


@dataclass(frozen=True)
class Box:
    r"""Where the thing that `word` names is: its left, top, right and lower edge, in [0, 1]."""

    word: str
    left: float
    top: float
    right: float
    bottom: float

    def coverage(self, height: int, width: int) -> np.ndarray:
        r"""How much of each of height x width parts of the image the box covers: float64 [height, width] in [0, 1]."""
        rows, columns = (
            np.clip(np.minimum(np.arange(1, n + 1), n * end) - np.maximum(np.arange(n), n * start), 0, None)
            for n, start, end in ((height, self.top, self.bottom), (width, self.left, self.right))
        )
        return np.outer(rows, columns)


@dataclass(frozen=True)
class Canvas:
    r"""A square RGB image with a brush and a coordinate frame (origin, scale, tilt, mirrored or not).

    `alpha` is in [0, 255]. Widths and radii are in units of the frame. Drawing modifies `image` in place.
    """

    image: Image.Image
    brush: ImageDraw.ImageDraw
    x: Real = 0.0
    y: Real = 0.0
    scale: Real = 1.0
    tilt: Real = 0.0  # radians, clockwise
    facing: int = 1  # -1 if left and right are exchanged
    boxes: list[Box] | None = None  # where `marked` writes; None if nobody asks for boxes

    def at(self, x: Real, y: Real, scale: Real = 1.0, tilt: Real = 0.0, facing: int = 1) -> Canvas:
        r"""The same canvas with its origin at (x, y) and with a unit of `scale` current units."""
        px, py = self._place([(x, y)])[0] / self.image.width
        return replace(self, x=float(px), y=float(py), scale=self.scale * scale,
            tilt=self.tilt + tilt * self.facing, facing=self.facing * facing)  # fmt: skip

    @contextmanager
    def marked(self, word: str) -> Iterator[None]:
        r"""Record the box of everything that is drawn inside the `with` block."""
        if self.boxes is None:
            yield
            return
        before = self.image.copy()
        yield
        found = ImageChops.difference(before, self.image).getbbox()
        if found:
            self.boxes.append(Box(word, *(edge / self.image.width for edge in found)))

    def shape(
        self, points: Points, colour: Colour, outline: Real = 0, ink: Colour = INK, alpha: int | None = None
    ) -> None:
        r"""A filled polygon; `outline` is the width of the line centred on its edge (0 for none)."""
        placed = list(map(tuple, self._place(points).tolist()))
        self.brush.polygon(placed, fill=rgb(colour, alpha))
        if outline:
            width = self._pixels(outline)
            self.brush.line([*placed, placed[0], placed[1]], fill=rgb(ink), width=width, joint="curve")

    def oval(
        self,
        x: Real,
        y: Real,
        rx: Real,
        ry: Real,
        colour: Colour,
        outline: Real = 0,
        ink: Colour = INK,
        alpha: int | None = None,
        tilt: Real = 0.0,
    ) -> None:
        r"""A filled ellipse, tilted clockwise by `tilt` radians, with an outline centred on its edge."""
        if outline:
            grown = outline / 2
            self.shape(_ellipse(x, y, rx + grown, ry + grown, tilt), ink)
            rx, ry = rx - grown, ry - grown
        self.shape(_ellipse(x, y, rx, ry, tilt), colour, alpha=alpha)

    def stroke(self, points: Points, colour: Colour, width: Real, alpha: int | None = None) -> None:
        r"""A line through the points, with round ends unless it is translucent."""
        placed = list(map(tuple, self._place(points).tolist()))
        pixels = self._pixels(width)
        self.brush.line(placed, fill=rgb(colour, alpha), width=pixels, joint="curve")
        if alpha is None:
            r = pixels / 2
            for x, y in (placed[0], placed[-1]):
                self.brush.ellipse([x - r, y - r, x + r, y + r], fill=rgb(colour))

    def _place(self, points: Points) -> np.ndarray:
        p = np.asarray(points, float) * (self.scale * self.facing, self.scale)
        if self.tilt:
            c, s = cos(self.tilt), sin(self.tilt)
            p = p @ np.array([[c, s], [-s, c]])
        return (p + (self.x, self.y)) * self.image.width

    def _pixels(self, width: Real) -> int:
        return max(1, round(width * self.scale * self.image.width))


def _ellipse(x: Real, y: Real, rx: Real, ry: Real, tilt: Real) -> np.ndarray:
    p = _CIRCLE * (rx, ry)
    if tilt:
        c, s = cos(tilt), sin(tilt)
        p = p @ np.array([[c, s], [-s, c]])
    return p + (x, y)


def gradient(stops: Sequence[tuple[Real, Colour]], size: int) -> Image.Image:
    r"""A square image with a vertical gradient; `stops` are (height in [0, 1], colour), from the top."""
    y = (np.arange(size) + 0.5) / size
    heights = [height for height, _ in stops]
    column = np.stack([np.interp(y, heights, [c[i] for _, c in stops]) for i in range(3)], axis=-1)
    image = Image.fromarray(np.rint(column[:, None]).astype(np.uint8))
    return image.resize((size, size), Image.Resampling.NEAREST)


def canvas_on(image: Image.Image, boxes: list[Box] | None = None) -> Canvas:
    r"""A canvas that draws on this RGB image."""
    return Canvas(image, ImageDraw.Draw(image, "RGBA"), boxes=boxes)
