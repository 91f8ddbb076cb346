r"""The background of a landscape: snow-capped mountains, green hills, or nothing."""

from __future__ import annotations

import numpy as np

from ldm.postcards.palette import WHITE, Colour, Light, mix
from ldm.postcards.shapes import Canvas, ridge

ROCK: Colour = (116, 122, 178)
GRASS: Colour = (112, 188, 88)


def relief(
    kind: str, canvas: Canvas, light: Light, horizon: float, sun_x: float, rng: np.random.Generator
) -> None:
    r"""Draw `kind` ("mountains", "hills" or "none") down to the horizon, leaving a gap for a low sun."""
    if kind == "mountains":
        _mountains(canvas, light, horizon, sun_x, rng)
    elif kind == "hills":
        _hills(canvas, light, horizon, rng)


def _mountains(canvas: Canvas, light: Light, horizon: float, sun_x: float, rng: np.random.Generator) -> None:
    far = (0.14, 0.50, 0.86)
    near = (-0.02, 0.31, 0.69, 1.02)
    for places, haze, top in ((far, 0.42, 0.17), (near, 0.05, 0.23)):
        for place in places:
            x = place + rng.uniform(-0.05, 0.05)
            y = top + rng.uniform(-0.05, 0.04)
            # The sun is above a valley, which is deeper if the sun is lower.
            closeness = max(0.0, 1 - abs(x - sun_x) / 0.34)
            y += closeness * (0.26 if light.sun_y > 0.25 else 0.12)
            _peak(canvas, light, x, y, horizon + 0.03, haze, rng)


def _peak(
    canvas: Canvas, light: Light, x: float, top: float, foot: float, haze: float, rng: np.random.Generator
) -> None:
    r"""One mountain: a lit left face, a shaded right face, and a zigzag cap of snow over both."""
    height = foot - top
    half = height * rng.uniform(0.66, 0.80)
    fold = rng.uniform(0.02, 0.14) * half  # where the ridge between the two faces meets the ground
    lit, shaded = light.on(ROCK, haze), light.on(mix(ROCK, (52, 44, 112), 0.55), haze)
    canvas.shape([(x, top), (x - half, foot), (x + fold, foot)], lit)
    canvas.shape([(x, top), (x + fold, foot), (x + half, foot)], shaded)
    cap = 0.46
    y, w, f = top + height * cap, half * cap, fold * cap
    snow, blue = mix(light.bright(WHITE), light.middle, haze / 3), light.bright((188, 208, 244))
    canvas.shape(
        [
            (x, top),
            (x - w, y),
            (x - w * 0.6, y - height * 0.07),
            (x - w * 0.3, y + height * 0.06),
            (x + f, y - 0.02),
        ],
        snow,
    )
    canvas.shape(
        [
            (x, top),
            (x + f, y - 0.02),
            (x + w * 0.35, y + height * 0.07),
            (x + w * 0.62, y - height * 0.06),
            (x + w, y),
        ],
        mix(blue, light.middle, haze / 3),
    )


def _hills(canvas: Canvas, light: Light, horizon: float, rng: np.random.Generator) -> None:
    for rise, haze, knots in ((0.25, 0.38, 5), (0.15, 0.10, 4)):
        # Crests and dips alternate, starting with either, so the skyline is always clearly hilly.
        first = rng.integers(2)
        heights = [
            horizon - rise + (0.11 if (i + first) % 2 else 0) + rng.uniform(-0.025, 0.025)
            for i in range(knots + 1)
        ]
        canvas.shape(ridge(heights, -0.1, 1.1), light.on(mix(GRASS, (60, 150, 80), 0.4 - haze), haze))
