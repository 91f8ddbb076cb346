r"""Trees, cacti, reeds and daisies, each with its base at the canvas's origin and one unit tall."""

from __future__ import annotations

import numpy as np

from ldm.postcards.canvas import Canvas
from ldm.postcards.colour import Colour, Light, mix

PINE: Colour = (38, 122, 84)
_TRUNK: Colour = (116, 76, 54)
_SHADE: Colour = (10, 44, 66)


def pine(canvas: Canvas, light: Light, haze: float = 0.0, tone: float = 0.0) -> None:
    r"""Three tiers of needles, the right half in shade; `tone` in [0, 1] goes from blue-green to yellow-green."""
    green = mix(PINE, (108, 150, 66), tone)
    canvas.shape([(-0.045, -0.2), (0.045, -0.2), (0.045, 0), (-0.045, 0)], light.on(_TRUNK, haze))
    lit, shaded = light.ground(green, haze), light.on(mix(green, _SHADE, 0.5), haze)
    if light.snow:
        lit = mix(lit, light.on(green, haze), 0.3)
    for top, foot, half in ((-0.55, -0.10, 0.28), (-0.80, -0.36, 0.22), (-1.0, -0.62, 0.155)):
        canvas.shape([(0, top), (-half, foot), (0, foot + 0.03)], lit)
        canvas.shape([(0, top), (half, foot), (0, foot + 0.03)], shaded)


def round_tree(canvas: Canvas, light: Light, tone: float = 0.0) -> None:
    r"""A trunk under a crown of leaves with a lit side."""
    green = mix((66, 152, 76), (150, 172, 60), tone)
    canvas.shape([(-0.055, -0.5), (0.055, -0.5), (0.075, 0), (-0.075, 0)], light.on(_TRUNK))
    shaded = light.on(mix(green, _SHADE, 0.3))
    canvas.oval(0, -0.62, 0.33, 0.27, shaded)
    canvas.oval(0.02, -0.78, 0.24, 0.22, shaded)
    canvas.oval(-0.06, -0.72, 0.24, 0.22, light.ground(green))


def birch(canvas: Canvas, light: Light, tone: float = 0.0) -> None:
    r"""A slim tree with a tall oval crown."""
    green = mix((96, 172, 84), (206, 168, 60), tone)
    canvas.shape([(-0.035, -0.6), (0.035, -0.6), (0.045, 0), (-0.045, 0)], light.on((222, 214, 204)))
    canvas.oval(0, -0.64, 0.21, 0.36, light.on(mix(green, _SHADE, 0.28)))
    canvas.oval(-0.05, -0.68, 0.14, 0.28, light.ground(green))


def cactus(canvas: Canvas, light: Light, rng: np.random.Generator) -> None:
    r"""A saguaro with one or two raised arms and one light rib."""
    dark, lit = light.on((38, 124, 84)), light.ground((78, 172, 104))
    canvas.stroke([(0, 0), (0, -0.90)], dark, 0.20)
    canvas.stroke([(0, -0.30), (-0.28, -0.34), (-0.30, -0.64)], dark, 0.13)
    if rng.random() < 0.7:
        canvas.stroke([(0, -0.22), (0.27, -0.26), (0.29, -0.50)], dark, 0.13)
    canvas.stroke([(-0.04, -0.02), (-0.04, -0.86)], lit, 0.06)


def reeds(canvas: Canvas, light: Light) -> None:
    r"""Three blades, one with a brown head."""
    green = light.on((58, 132, 70))
    for lean in (-0.24, 0.04, 0.28):
        canvas.stroke([(lean * 0.3, 0), (lean, -0.9 + abs(lean))], green, 0.10)
    canvas.stroke([(0.04, -0.76), (0.05, -1.0)], light.on((120, 72, 44)), 0.17)


def tuft(canvas: Canvas, colour: Colour) -> None:
    r"""Three short blades of grass."""
    canvas.shape([(-0.5, 0), (-0.6, -0.7), (-0.2, -0.2), (0, -1), (0.2, -0.2), (0.6, -0.7), (0.5, 0)], colour)
