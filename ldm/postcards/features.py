r"""The main feature of a landscape: a waterfall, a boat, a house or a balloon.

Each is drawn with the middle of its base at the canvas's origin and is about one unit tall.
"""

from __future__ import annotations

import numpy as np

from ldm.postcards.palette import INK, WHITE, Colour, Light, mix
from ldm.postcards.shapes import Canvas, smooth

_SAILS: tuple[Colour, ...] = ((255, 248, 236), (240, 84, 70), (255, 204, 70))
_ROOFS: tuple[Colour, ...] = ((216, 66, 58), (190, 84, 50), (200, 56, 92))
_BALLOONS: tuple[tuple[Colour, Colour], ...] = (
    ((230, 62, 62), (255, 236, 190)),
    ((56, 110, 224), (255, 216, 80)),
    ((140, 78, 200), (255, 206, 130)),
)
_LINE = 0.035


def waterfall(canvas: Canvas, light: Light, pool: bool) -> None:
    r"""A grassy cliff and one broad white fall, landing in foam and, with `pool`, in a pool of its own."""
    rock, dark = light.on((150, 128, 118)), light.on((104, 88, 96))
    left = [(-0.62, 0), (-0.56, -0.44), (-0.44, -0.80), (-0.16, -0.98), (-0.16, 0)]
    right = [(0.62, 0), (0.57, -0.42), (0.46, -0.76), (0.16, -0.98), (0.16, 0)]
    canvas.shape(left, rock)
    canvas.shape(right, dark)
    canvas.shape([(-0.56, -0.44), (-0.36, -0.52), (-0.30, 0), (-0.62, 0)], dark)
    canvas.shape([(0.16, -0.60), (0.36, -0.50), (0.42, 0), (0.16, 0)], rock)
    grass = light.on((92, 178, 80))
    for x, y, rx in ((-0.42, -0.80, 0.15), (-0.26, -0.93, 0.16), (0.27, -0.92, 0.16), (0.44, -0.77, 0.15)):
        canvas.oval(x, y, rx, 0.085, grass)
    if pool:
        canvas.oval(0, 0.07, 0.66, 0.15, light.bright((88, 172, 232)))
    water, foam = mix(light.bright((168, 222, 255)), WHITE, 0.15), mix(light.bright(WHITE), WHITE, 0.4)
    canvas.shape([(-0.19, -0.99), (0.19, -0.99), (0.23, 0.02), (-0.23, 0.02)], water)
    for x in (-0.13, 0.0, 0.13):
        canvas.stroke([(x, -0.95), (x * 1.2, -0.02)], foam, 0.07)
    for x, r in ((-0.24, 0.10), (-0.08, 0.12), (0.09, 0.12), (0.25, 0.10)):
        canvas.oval(x, 0.02, r, 0.075, foam)


def boat(canvas: Canvas, light: Light, rng: np.random.Generator) -> None:
    r"""A sailing boat on its own rippled reflection."""
    ink, sail = light.on(INK), light.bright(_SAILS[rng.integers(len(_SAILS))])
    canvas.oval(0, 0.03, 0.50, 0.06, light.on((30, 60, 100)), alpha=120)
    canvas.shape([(-0.30, 0.09), (0.30, 0.09), (0.06, 0.42), (-0.05, 0.42)], sail, alpha=80)
    canvas.stroke([(0, -0.18), (0, -1.0)], ink, 0.05)
    canvas.shape([(0.06, -0.96), (0.42, -0.28), (0.06, -0.28)], sail, _LINE, ink)
    canvas.shape(
        [(-0.06, -0.86), (-0.34, -0.28), (-0.06, -0.28)], mix(sail, light.on(WHITE), 0.5), _LINE, ink
    )
    canvas.shape(
        [(-0.48, -0.20), (0.50, -0.20), (0.34, 0.04), (-0.32, 0.04)], light.on((176, 92, 52)), _LINE, ink
    )
    canvas.stroke([(-0.42, -0.13), (0.44, -0.13)], light.bright((255, 240, 214)), 0.05)


def house(canvas: Canvas, light: Light, rng: np.random.Generator) -> None:
    r"""A cottage with a big roof, a chimney, a door and a lit window."""
    ink, roof = light.on(INK), light.bright(_ROOFS[rng.integers(len(_ROOFS))])
    canvas.shape(
        [(0.20, -0.62), (0.20, -1.0), (0.36, -1.0), (0.36, -0.62)], light.on((150, 86, 74)), _LINE, ink
    )
    canvas.shape(
        [(-0.44, 0), (-0.44, -0.52), (0.44, -0.52), (0.44, 0)], light.bright((255, 234, 204)), _LINE, ink
    )
    canvas.shape([(-0.58, -0.48), (-0.30, -0.88), (0.30, -0.88), (0.58, -0.48)], roof, _LINE, ink)
    canvas.shape([(0.08, 0), (0.08, -0.36), (0.32, -0.36), (0.32, 0)], light.on((136, 82, 54)), _LINE, ink)
    canvas.shape([(-0.33, -0.14), (-0.33, -0.38), (-0.07, -0.38), (-0.07, -0.14)], (255, 222, 98), _LINE, ink)


def balloon(canvas: Canvas, light: Light, rng: np.random.Generator) -> None:
    r"""A striped hot-air balloon and its basket; the origin is the basket's floor."""
    ink = light.on(INK)
    main, stripe = (light.bright(colour) for colour in _BALLOONS[rng.integers(len(_BALLOONS))])
    for x in (-1, 1):
        canvas.stroke([(x * 0.22, -0.34), (x * 0.09, -0.14)], ink, 0.03)
    envelope = np.array(
        smooth(
            [
                (0, -1.0),
                (0.36, -0.86),
                (0.43, -0.60),
                (0.20, -0.31),
                (-0.20, -0.31),
                (-0.43, -0.60),
                (-0.36, -0.86),
            ]
        )
    )
    canvas.shape(envelope, main, _LINE, ink)
    for width in (0.66, 0.24):  # narrower copies of the outline form the stripes
        canvas.shape(envelope * (width, 0.985) - (0, 0.008), stripe if width == 0.66 else main)
    canvas.shape([(-0.12, -0.16), (0.12, -0.16), (0.09, 0), (-0.09, 0)], light.on((178, 116, 60)), _LINE, ink)
