r"""The sky of each time of day: bands of colour, the sun or the moon, clouds and a few large stars."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ldm.postcards.palette import Light
from ldm.postcards.shapes import Canvas, canvas_on

_GLOW_CELLS = 64  # the sky has no edges, so it is computed at this size and enlarged

# A crescent moon of radius 1: the rim on the left, then back along a flatter arc between the two tips.
_RIM = np.linspace(0.28 * np.pi, 1.72 * np.pi, 24)
_BITE = np.linspace(1.5 * np.pi, 0.5 * np.pi, 16)
_CRESCENT = np.concatenate(
    [
        np.stack([np.cos(_RIM), np.sin(_RIM)], axis=1),
        np.stack([0.637 + 0.80 * np.cos(_BITE), 0.771 * np.sin(_BITE)], axis=1),
    ]
)


def sky(light: Light, time: str, sun_x: float, horizon: float, size: int, rng: np.random.Generator) -> Canvas:
    r"""A new square canvas of `size` pixels filled with sky; the ground is drawn over it later."""
    middle = (np.arange(_GLOW_CELLS) + 0.5) / _GLOW_CELLS
    heights = [0, horizon * 0.55, horizon, 1]
    bands = (light.zenith, light.middle, light.horizon, light.horizon)
    column = np.stack([np.interp(middle, heights, [band[i] for band in bands]) for i in range(3)], axis=-1)
    squared = (middle - sun_x) ** 2 + (middle[:, None] - light.sun_y) ** 2
    glow = 0.7 * np.exp(-squared / 0.035)[..., None]
    pixels = column[:, None] * (1 - glow) + np.array(light.glow) * glow
    small = Image.fromarray(np.rint(pixels).astype(np.uint8))
    canvas = canvas_on(small.resize((size, size), Image.Resampling.BILINEAR))

    r = light.sun_radius
    if time == "night":
        _stars(canvas, light, sun_x, horizon, rng)
        canvas.at(sun_x, light.sun_y, r, tilt=-0.4).shape(_CRESCENT, light.sun)
    else:
        if time == "day":
            canvas.oval(sun_x, light.sun_y, r * 1.35, r * 1.35, light.sun, alpha=90)
        canvas.oval(sun_x, light.sun_y, r, r, light.sun)
    _clouds(canvas, light, time, sun_x, rng)
    return canvas


def _stars(canvas: Canvas, light: Light, sun_x: float, horizon: float, rng: np.random.Generator) -> None:
    spots = [(0.09, 0.12), (0.24, 0.28), (0.38, 0.10), (0.55, 0.22), (0.67, 0.07), (0.80, 0.26), (0.93, 0.12)]
    for x, y in spots:
        x, y = x + rng.uniform(-0.04, 0.04), y + rng.uniform(-0.03, 0.03)
        r = rng.uniform(0.020, 0.030)
        if abs(x - sun_x) < 0.16 and abs(y - light.sun_y) < 0.17:
            continue
        waist = r * 0.32
        points = [
            (0, -r),
            (waist, -waist),
            (r, 0),
            (waist, waist),
            (0, r),
            (-waist, waist),
            (-r, 0),
            (-waist, -waist),
        ]
        canvas.at(x, y).shape(points, light.sun)


def _clouds(canvas: Canvas, light: Light, time: str, sun_x: float, rng: np.random.Generator) -> None:
    if time == "night":
        return
    away = 1 if sun_x < 0.5 else -1
    for x, y, scale in ((sun_x + away * 0.50, 0.13, 1.0), (sun_x - away * 0.22, 0.22, 0.72)):
        cloud = canvas.at(
            x + rng.uniform(-0.07, 0.07), y + rng.uniform(-0.04, 0.04), scale * rng.uniform(0.85, 1.15)
        )
        if time == "day":
            for dx, dy, r in (
                (-0.10, 0.0, 0.05),
                (-0.03, -0.035, 0.065),
                (0.055, -0.015, 0.055),
                (0.11, 0.008, 0.042),
            ):
                cloud.oval(dx, dy, r, r, light.cloud)
            cloud.oval(0, 0.028, 0.16, 0.027, light.cloud)
        else:  # long, thin banks lit by the low sun
            cloud.oval(-0.03, 0, 0.17, 0.020, light.cloud, alpha=210)
            cloud.oval(0.07, 0.038, 0.14, 0.016, light.cloud, alpha=170)
