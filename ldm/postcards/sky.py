r"""The sky: bands of colour, the sun or the moon, stars, clouds and the rainbow."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ldm.postcards.canvas import Box, Canvas, canvas_on
from ldm.postcards.colour import Colour, Light, mix
from ldm.postcards.scene import Scene

_CELLS = 64  # the sky has no edges, so it is computed at this size and enlarged
_RAINBOW: tuple[Colour, ...] = ((240, 70, 70), (252, 156, 56), (254, 226, 84), (96, 200, 104),
    (72, 140, 240), (150, 92, 210))  # fmt: skip
_STAR = [(0, -1), (0.3, -0.3), (1, 0), (0.3, 0.3), (0, 1), (-0.3, 0.3), (-1, 0), (-0.3, -0.3)]

# A crescent moon of radius 1: the rim on the left, then back along a flatter arc between the two tips.
_RIM = np.linspace(0.28 * np.pi, 1.72 * np.pi, 24)
_BITE = np.linspace(1.5 * np.pi, 0.5 * np.pi, 16)
_CRESCENT = np.concatenate([np.stack([np.cos(_RIM), np.sin(_RIM)], axis=1),
    np.stack([0.637 + 0.80 * np.cos(_BITE), 0.771 * np.sin(_BITE)], axis=1)])  # fmt: skip


def sky(
    scene: Scene,
    light: Light,
    horizon: float,
    size: int,
    rng: np.random.Generator,
    boxes: list[Box] | None,
) -> tuple[Canvas, tuple[float, float]]:
    r"""A new square canvas filled with sky, and the centre of the sun or moon; the ground is drawn over it later."""
    # Beside the balloons, not behind them.
    aside = {thing.slot for thing in scene.things if thing.kind == "balloon"}
    near = (0 if scene.sun == "left" else 2) in aside
    x = rng.uniform(*((0.39, 0.45) if near else (0.08, 0.26) if 1 in aside else (0.09, 0.40)))
    x = x if scene.sun == "left" else 1 - x
    y = horizon * (1 - light.sun_y) * rng.uniform(0.85, 1.0)
    if scene.relief == "mountains":  # a sun behind a mountain could not be seen
        y = min(y, horizon - 0.17)
    canvas = canvas_on(_glow(light, x, y, horizon, size, rng), boxes)
    radius = rng.uniform(0.065, 0.10) * (1.3 if scene.time in ("sunrise", "sunset") else 1.0)
    y = max(y, radius + 0.03)
    if scene.time == "night" and scene.sun_is_visible:
        _stars(canvas, light, x, y, horizon, rng)
    if scene.sun_is_visible:
        with canvas.marked("moon" if scene.time == "night" else "sun"):
            _sun_or_moon(canvas.at(x, y, radius), scene, light, rng)
    if scene.weather == "rainbow":
        with canvas.marked("rainbow"):
            _rainbow(canvas, 1 - x, horizon - (0.08 if scene.relief != "none" else 0), rng)
    if scene.weather in ("rain", "snow"):
        _cover(canvas, light, rng)
    elif scene.weather != "fog" and scene.time != "night":
        _clouds(canvas, scene.time, light, x, horizon, rng)
    return canvas, (x, y)


def _glow(
    light: Light, x: float, y: float, horizon: float, size: int, rng: np.random.Generator
) -> Image.Image:
    r"""The bands of the sky, and a glow around the sun."""
    middle = (np.arange(_CELLS) + 0.5) / _CELLS
    heights = [0, horizon * rng.uniform(0.35, 0.75), horizon, 1]
    bands = (light.zenith, light.middle, light.horizon, light.horizon)
    column = np.stack([np.interp(middle, heights, [band[i] for band in bands]) for i in range(3)], axis=-1)
    squared = (middle - x) ** 2 + (middle[:, None] - y) ** 2
    glow = 0.65 * np.exp(-squared / rng.uniform(0.03, 0.09))[..., None]
    pixels = column[:, None] * (1 - glow) + np.array(light.glow) * glow
    small = Image.fromarray(np.rint(pixels).astype(np.uint8))
    return small.resize((size, size), Image.Resampling.BILINEAR)


def _sun_or_moon(frame: Canvas, scene: Scene, light: Light, rng: np.random.Generator) -> None:
    r"""Drawn with radius 1: a sun in its halo, a crescent, or a full moon with three craters."""
    kind = rng.integers(2)
    if scene.weather == "fog":
        frame.oval(0, 0, 1, 1, mix(light.sun, light.middle, 0.35))
    elif scene.time == "night" and kind:
        frame.at(0, 0, 1.15, tilt=rng.uniform(-0.6, 0.2)).shape(_CRESCENT, light.sun)
    elif scene.time == "night":
        frame.oval(0, 0, 1, 1, light.sun)
        shadow = mix(light.sun, light.middle, 0.22)
        for cx, cy, r in ((-0.35, -0.25, 0.26), (0.30, 0.15, 0.34), (-0.20, 0.50, 0.18)):
            frame.oval(cx, cy, r, r, shadow)
    else:
        frame.oval(0, 0, 1.45, 1.45, light.sun, alpha=70)
        if kind:
            frame.oval(0, 0, 1.95, 1.95, light.sun, alpha=40)
        frame.oval(0, 0, 1, 1, light.sun)


def _stars(
    canvas: Canvas, light: Light, x: float, y: float, horizon: float, rng: np.random.Generator
) -> None:
    for i in range(10):
        sx, sy = (i + rng.uniform(0.1, 0.9)) / 10, rng.uniform(0.04, 0.80) * horizon
        if abs(sx - x) > 0.16 or abs(sy - y) > 0.16:
            canvas.at(sx, sy, rng.uniform(0.018, 0.030)).shape(_STAR, light.sun)


def _rainbow(canvas: Canvas, x: float, foot: float, rng: np.random.Generator) -> None:
    x, radius, width = x + rng.uniform(-0.08, 0.08), rng.uniform(0.32, 0.44), 0.026
    turn = np.linspace(np.pi, 2 * np.pi, 40)
    arc = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    for i, colour in enumerate(_RAINBOW):
        outer, inner = radius - i * width, radius - (i + 1) * width
        ring = np.concatenate([arc * outer, arc[::-1] * inner]) + (x, foot + 0.02)
        canvas.shape(ring, colour, alpha=200)


def _clouds(
    canvas: Canvas, time: str, light: Light, x: float, horizon: float, rng: np.random.Generator
) -> None:
    for i in range(rng.integers(4)):
        cx, cy = rng.uniform(0, 1), rng.uniform(0.10, 0.55) * horizon
        if abs(cx - x) < 0.22:
            cx += 0.3 if cx > x else -0.3
        cloud = canvas.at(cx, cy, rng.uniform(0.8, 1.5), facing=1 if i % 2 else -1)
        if time == "day":
            puff(cloud, light.cloud, mix(light.cloud, light.middle, 0.25))
        else:  # long, thin banks lit by the low sun
            cloud.oval(-0.03, 0, 0.18, 0.020, light.cloud, alpha=225)
            cloud.oval(0.08, 0.034, 0.13, 0.016, light.cloud, alpha=190)


def puff(frame: Canvas, colour: Colour, shade: Colour) -> None:
    r"""A cloud about 0.3 wide, flat below."""
    frame.oval(0, 0.026, 0.165, 0.030, shade)
    for dx, dy, r in ((-0.09, 0.0, 0.048), (-0.02, -0.035, 0.066), (0.065, -0.012, 0.052)):
        frame.oval(dx, dy, r, r, colour)
    frame.oval(0, 0.016, 0.155, 0.026, colour)


def _cover(canvas: Canvas, light: Light, rng: np.random.Generator) -> None:
    r"""A closed layer of clouds along the upper edge, in two tones."""
    low = rng.uniform(0.08, 0.16)
    for tone, depth in ((0.12, low + 0.07), (0.38, low)):
        colour = mix(light.cloud, light.zenith, 0.55 - tone)
        canvas.shape([(-0.1, -0.1), (1.1, -0.1), (1.1, depth), (-0.1, depth)], colour)
        shift = rng.uniform(0, 0.2)
        for i in range(7):
            r = rng.uniform(0.07, 0.12)
            canvas.oval(-0.1 + shift + i * 0.19, depth, r * 1.25, r * 0.75, colour)
