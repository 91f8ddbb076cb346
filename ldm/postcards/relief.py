r"""The distance of a landscape: snow-capped mountains, green hills, or nothing."""

from __future__ import annotations

import numpy as np

from ldm.postcards.canvas import Canvas, ridge
from ldm.postcards.colour import Colour, Light, mix
from ldm.postcards.scene import Scene

_ROCKS: tuple[Colour, ...] = ((118, 124, 178), (140, 122, 132), (92, 120, 150), (98, 92, 132))
_SNOW: tuple[Colour, Colour] = ((255, 255, 255), (186, 206, 244))  # in the light and in the shade


def meadow_green(rng: np.random.Generator) -> Colour:
    r"""The green of one drawing's grass: from a deep to a fresh green, and on to late summer's yellow."""
    season = rng.uniform(0, 2)
    if season < 1:
        return mix((56, 134, 76), (112, 190, 78), season)
    return mix((112, 190, 78), (196, 188, 84), (season - 1) * 0.8)


def relief(
    scene: Scene,
    canvas: Canvas,
    light: Light,
    horizon: float,
    sun: tuple[float, float],
    rng: np.random.Generator,
) -> None:
    r"""Draw the scene's relief down to the horizon, leaving a gap for a low sun."""
    if scene.relief == "mountains":
        with canvas.marked("mountains"):
            _mountains(canvas, light, horizon, sun, scene.place == "forest", rng)
    elif scene.relief == "hills":
        with canvas.marked("hills"):
            _hills(canvas, light, horizon - 0.12 * (scene.place == "forest"), rng)


def _mountains(
    canvas: Canvas,
    light: Light,
    horizon: float,
    sun: tuple[float, float],
    wooded: bool,
    rng: np.random.Generator,
) -> None:
    r"""Two chains, one behind the other; the far one is paler, and a single high peak may stand out."""
    rock = _ROCKS[rng.integers(len(_ROCKS))]
    lit_left = 1 if sun[0] < 0.5 else -1
    high, snow = rng.uniform(0.15, 0.36) * min(1.0, horizon / 0.5), rng.uniform(0.34, 0.66)
    high += 0.14 * wooded  # to be seen above the trees
    chief = rng.integers(4)
    for chain, (count, haze) in enumerate(((4, 0.45), (3, 0.08))):
        start = rng.uniform(-0.1, 0.1)
        for i in range(count + 1):
            x = start + i / count + rng.uniform(-0.05, 0.05)
            tall = high * rng.uniform(0.75, 1.1) * (1.0 if chain else 1.25)
            if chain and i == chief and abs(x - sun[0]) > 0.3:
                tall *= 1.35
            if abs(x - sun[0]) < 0.22:  # the sun stands over a valley
                tall = min(tall, max(0.06, horizon - sun[1] - 0.06))
            frame = canvas.at(x, horizon + 0.03, tall + 0.03, facing=lit_left)
            _peak(frame, light, rock, haze, snow, rng)


def _peak(
    frame: Canvas, light: Light, rock: Colour, haze: float, snow: float, rng: np.random.Generator
) -> None:
    r"""A mountain one unit tall above the origin: a lit left face, a shaded right face, and a cap of snow over both."""
    left, right, fold = rng.uniform(0.70, 0.95), rng.uniform(0.70, 0.95), rng.uniform(-0.05, 0.22)
    cap = snow + rng.uniform(-0.06, 0.06)
    shaded = mix(rock, (44, 40, 104), 0.52)
    ledge = (-left * cap, cap - 1)  # where the snow line meets the left edge
    crease = (fold * cap, cap - 1 + 0.02)
    frame.shape([(0, -1), (-left, 0), (fold, 0)], light.ground(rock, haze))
    frame.shape([(0, -1), (fold, 0), (right, 0)], light.ground(shaded, haze))
    bright, blue = (mix(light.vivid(c), light.middle, haze * 0.7) for c in _SNOW)
    frame.shape(
        [(0, -1), ledge, (-left * cap * 0.6, ledge[1] - 0.09), (-left * cap * 0.28, ledge[1] + 0.10), crease],
        bright,
    )
    frame.shape([(0, -1), crease, (right * cap * 0.40, ledge[1] + 0.10),
        (right * cap * 0.62, ledge[1] - 0.08), (right * cap, ledge[1])], blue)  # fmt: skip


def _hills(canvas: Canvas, light: Light, horizon: float, rng: np.random.Generator) -> None:
    green = meadow_green(rng)
    for rise, haze, knots in ((rng.uniform(0.18, 0.26), 0.30, 4), (rng.uniform(0.09, 0.15), 0.06, 3)):
        # Crests and dips alternate, starting with either, so the skyline is always clearly hilly.
        first = rng.integers(2)
        heights = [
            horizon - rise + (0.12 if (i + first) % 2 else 0) + rng.uniform(-0.025, 0.025)
            for i in range(knots + 1)
        ]
        canvas.shape(ridge(heights, -0.1, 1.1), light.ground(green, haze))
