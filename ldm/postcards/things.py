r"""The objects of a landscape: waterfall, boat, house, balloon and flower, each in two or three variants.

Each is drawn with the middle of its base at the canvas's origin, one unit tall, and lit from the left.
"""

from __future__ import annotations

import numpy as np

from ldm.postcards.canvas import Canvas, smooth
from ldm.postcards.colour import INK, PAINT, WHITE, Colour, Light, darker, mix

_ENVELOPE = smooth(
    [(0, -1.0), (0.34, -0.88), (0.42, -0.62), (0.20, -0.30), (-0.20, -0.30), (-0.42, -0.62), (-0.34, -0.88)]
)


def thing(kind: str, colour: str, canvas: Canvas, light: Light, rng: np.random.Generator) -> None:
    r"""Draw one thing of that kind; a variant is picked at random."""
    paint = light.vivid(PAINT[colour]) if colour else WHITE
    _DRAW[kind](canvas, paint, light, rng)


def _waterfall(canvas: Canvas, _paint: Colour, light: Light, rng: np.random.Generator) -> None:
    r"""A grassy cliff and one broad white fall, landing in foam and in a pool of its own."""
    rock = mix((146, 132, 128), (164, 124, 100), rng.uniform(0, 1))
    lit, dark = light.ground(rock), light.on(mix(rock, (50, 44, 84), 0.45))
    far = rng.uniform(0.55, 0.85)  # how far the cliff goes on to the left
    near, shelf = rng.uniform(0.42, 0.62), rng.uniform(-0.88, -0.72)
    canvas.oval(0.02, 0.04, 0.62, 0.11, light.vivid((92, 176, 236)))
    canvas.shape([(-far, 0), (-far * 0.92, -0.66), (-0.40, -0.90), (-0.14, -0.97), (-0.14, 0)], lit)
    canvas.shape([(-far * 0.7, 0), (-far * 0.55, -0.5), (-0.30, -0.62), (-0.22, 0)], dark)
    canvas.shape([(near, 0), (near * 0.94, shelf), (0.30, -0.94), (0.14, -0.97), (0.14, 0)], dark)
    grass = light.ground((98, 180, 82))
    canvas.shape(
        smooth([(-far, -0.60), (-far * 0.6, -0.86), (-0.13, -1.03), (-0.13, -0.90), (-far * 0.5, -0.74)]),
        grass,
    )
    canvas.shape(
        smooth([(near, shelf + 0.10), (near * 0.8, shelf - 0.08), (0.13, -1.03), (0.13, -0.90)]), grass
    )
    water, foam = light.vivid((172, 222, 252)), mix(light.vivid(WHITE), WHITE, 0.5)
    wide = rng.uniform(0.15, 0.21)
    canvas.shape([(-wide, -0.99), (wide, -0.99), (wide * 1.25, 0.02), (-wide * 1.25, 0.02)], water)
    for x in (-0.66, 0.0, 0.66):
        canvas.stroke([(x * wide, -0.95), (x * wide * 1.2, -0.02)], foam, 0.36 * wide)
    for x, r in ((-1.3, 0.10), (-0.45, 0.12), (0.5, 0.12), (1.35, 0.10)):
        canvas.oval(x * wide, 0.02, r, 0.075, foam)


def _boat(canvas: Canvas, paint: Colour, light: Light, rng: np.random.Generator) -> None:
    r"""A yacht with two sails, a boat with one square sail, or a little steamer, on its own reflection."""
    variant = rng.integers(3)
    wood, pale = light.on((150, 88, 58)), light.vivid((252, 246, 232))
    canvas.oval(0, 0.05, 0.56, 0.055, light.on((30, 64, 110)), alpha=110)
    canvas.shape([(-0.34, 0.07), (0.36, 0.07), (0.14, 0.30), (-0.12, 0.30)], paint, alpha=90)
    hull = [(-0.50, -0.22), (0.54, -0.22), (0.36, 0.06), (-0.36, 0.06)]
    if variant == 2:
        canvas.shape([(-0.28, -0.20), (-0.28, -0.50), (0.22, -0.50), (0.22, -0.20)], pale)
        canvas.shape([(-0.02, -0.50), (-0.02, -0.92), (0.16, -0.92), (0.16, -0.50)], paint)
        canvas.shape([(-0.02, -0.80), (-0.02, -0.92), (0.16, -0.92), (0.16, -0.80)], darker(paint, 0.6))
        for x in (-0.18, 0.0):
            canvas.oval(x + 0.06, -0.36, 0.06, 0.06, light.on((70, 120, 170)))
    else:
        canvas.stroke([(0, -0.20), (0, -1.0)], light.on(INK), 0.06)
        if variant:
            sail = [(-0.36, -0.92), (0.36, -0.92), (0.42, -0.36), (-0.42, -0.36)]
            canvas.shape(sail, paint)
            canvas.shape([(0.0, -0.92), (0.36, -0.92), (0.42, -0.36), (0.0, -0.36)], darker(paint, 0.18))
        else:
            canvas.shape([(0.06, -0.98), (0.50, -0.30), (0.06, -0.30)], paint)
            canvas.shape([(-0.06, -0.86), (-0.40, -0.30), (-0.06, -0.30)], pale)
    canvas.shape(hull, paint if variant == 2 else mix(paint, wood, 0.25) if sum(paint) < 640 else wood)
    canvas.shape([(-0.50, -0.22), (0.54, -0.22), (0.50, -0.13), (-0.45, -0.13)], pale)


def _house(canvas: Canvas, paint: Colour, light: Light, rng: np.random.Generator) -> None:
    r"""A cottage seen from the side, a narrow house with a gable, or a barn with a second roof slope."""
    variant = rng.integers(3)
    roof = light.on(((92, 84, 108), (122, 78, 66), (78, 92, 122))[rng.integers(3)])
    door, pane = light.on((104, 70, 60)), (255, 226, 116)
    if variant == 0:
        canvas.shape([(0.20, -0.60), (0.20, -0.98), (0.36, -0.98), (0.36, -0.60)], light.on((150, 96, 86)))
        canvas.shape([(-0.48, 0), (-0.48, -0.50), (0.48, -0.50), (0.48, 0)], paint)
        canvas.shape([(-0.62, -0.46), (-0.34, -0.88), (0.34, -0.88), (0.62, -0.46)], roof)
        canvas.shape([(-0.12, 0), (-0.12, -0.34), (0.12, -0.34), (0.12, 0)], door)
        low, windows = -0.16, [(-0.40, 0.18), (0.22, 0.18)]
    elif variant == 1:
        canvas.shape([(-0.34, 0), (-0.34, -0.62), (0, -0.98), (0.34, -0.62), (0.34, 0)], paint)
        canvas.stroke([(-0.46, -0.52), (0, -0.98), (0.46, -0.52)], roof, 0.13)
        canvas.shape([(-0.11, 0), (-0.11, -0.28), (0.11, -0.28), (0.11, 0)], door)
        low, windows = -0.40, [(-0.11, 0.22)]
    else:
        canvas.shape([(-0.10, 0), (-0.10, -0.52), (0.64, -0.52), (0.64, 0)], darker(paint, 0.22))
        canvas.shape([(-0.12, -0.46), (0.02, -0.92), (0.54, -0.92), (0.74, -0.46)], roof)
        canvas.shape([(-0.50, 0), (-0.50, -0.52), (-0.22, -0.90), (0.06, -0.52), (0.06, 0)], paint)
        canvas.stroke([(-0.58, -0.44), (-0.22, -0.92), (0.14, -0.44)], roof, 0.10)
        canvas.shape([(-0.33, 0), (-0.33, -0.34), (-0.11, -0.34), (-0.11, 0)], door)
        low, windows = -0.14, [(0.22, 0.22)]
    for x, w in windows:
        canvas.shape([(x, low), (x, low - 0.22), (x + w, low - 0.22), (x + w, low)], pane)


def _balloon(canvas: Canvas, paint: Colour, light: Light, rng: np.random.Generator) -> None:
    r"""A hot-air balloon with stripes, with a band, or plain, and its basket."""
    variant = rng.integers(3)
    pale, ink = mix(paint, light.vivid((255, 250, 236)), 0.45), light.on((96, 66, 54))
    for x in (-1, 1):
        canvas.stroke([(x * 0.19, -0.34), (x * 0.09, -0.13)], ink, 0.035)
    canvas.shape(_ENVELOPE, darker(paint, 0.12) if sum(paint) < 690 else darker(paint, 0.2))
    if variant == 0:  # narrower copies of the outline form the stripes
        for width, colour in ((0.72, pale), (0.32, paint)):
            canvas.shape(_ENVELOPE * (width, 1), colour)
    else:
        canvas.shape(_ENVELOPE * (0.80, 0.96) - (0.05, 0.035), paint)
        if variant == 1:
            canvas.shape([(-0.425, -0.70), (0.425, -0.70), (0.40, -0.52), (-0.40, -0.52)], pale)
    canvas.shape([(-0.13, -0.17), (0.13, -0.17), (0.10, 0), (-0.10, 0)], light.on((182, 120, 66)))


def _flower(canvas: Canvas, paint: Colour, light: Light, rng: np.random.Generator) -> None:
    r"""A large daisy with six petals, a tulip, or a poppy, on a stem with two leaves."""
    variant = rng.integers(3)
    stem, leaf = light.on((60, 140, 66)), light.on((84, 170, 76))
    canvas.stroke([(0, 0), (0.01, -0.62)], stem, 0.08)
    for side in (-1, 1):
        canvas.oval(side * 0.15, -0.20, 0.17, 0.07, leaf, tilt=side * -0.6)
    if variant == 0:
        for turn in np.arange(6) * np.pi / 3 + 0.5:
            canvas.oval(0.22 * np.cos(turn), -0.72 + 0.22 * np.sin(turn), 0.145, 0.145, paint)
        centre = (255, 206, 66) if paint[2] < 200 or paint[0] < 200 or paint[1] < 200 else (250, 176, 50)
        if paint[0] > 200 and paint[1] > 150 and paint[2] < 120:
            centre = (150, 84, 50)  # a yellow centre would not show on yellow petals
        canvas.oval(0, -0.72, 0.13, 0.13, light.vivid(centre))
    elif variant == 1:
        cup = [(-0.26, -0.96), (-0.12, -0.84), (0, -1.0), (0.12, -0.84), (0.26, -0.96), (0.22, -0.60),
            (0, -0.50), (-0.22, -0.60)]  # fmt: skip
        canvas.shape(cup, paint)
        canvas.shape(
            [(0.02, -0.98), (0.12, -0.84), (0.26, -0.96), (0.22, -0.60), (0.02, -0.52)], darker(paint, 0.2)
        )
    else:
        canvas.oval(0, -0.74, 0.31, 0.25, darker(paint, 0.2))
        canvas.oval(-0.04, -0.78, 0.25, 0.20, paint)
        canvas.oval(0, -0.72, 0.09, 0.09, light.on((60, 44, 60)))


_DRAW = {"waterfall": _waterfall, "boat": _boat, "house": _house, "balloon": _balloon, "flower": _flower}  # fmt: skip
