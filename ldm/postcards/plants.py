r"""Trees, cacti, flowers and reeds, each with its base at the canvas's origin and one unit tall."""

from __future__ import annotations

from ldm.postcards.palette import Colour, Light, mix
from ldm.postcards.shapes import Canvas

PINE: Colour = (36, 118, 76)
TRUNK: Colour = (116, 76, 50)


def pine(canvas: Canvas, light: Light, haze: float = 0.0) -> None:
    r"""Three tiers of needles, the right half in shade."""
    canvas.shape([(-0.05, -0.2), (0.05, -0.2), (0.05, 0), (-0.05, 0)], light.on(TRUNK, haze))
    lit, shaded = light.on(PINE, haze), light.on(mix(PINE, (8, 44, 52), 0.5), haze)
    for top, half in ((-0.52, 0.27), (-0.76, 0.22), (-1.0, 0.16)):
        foot = top + 0.40
        canvas.shape([(0, top), (-half, foot), (0, foot)], lit)
        canvas.shape([(0, top), (half, foot), (0, foot)], shaded)


def round_tree(canvas: Canvas, light: Light) -> None:
    r"""A trunk under a ball of leaves with a lit side."""
    canvas.shape([(-0.06, -0.5), (0.06, -0.5), (0.08, 0), (-0.08, 0)], light.on(TRUNK))
    canvas.oval(0, -0.66, 0.32, 0.34, light.on((58, 146, 70)))
    canvas.oval(-0.07, -0.73, 0.20, 0.21, light.on((104, 186, 88)))


def cactus(canvas: Canvas, light: Light) -> None:
    r"""A saguaro with two raised arms and one light rib."""
    dark, lit = light.on((34, 120, 78)), light.on((66, 164, 98))
    canvas.stroke([(0, 0), (0, -0.92)], dark, 0.22)
    canvas.stroke([(0, -0.34), (-0.29, -0.36), (-0.31, -0.66)], dark, 0.14)
    canvas.stroke([(0, -0.24), (0.29, -0.26), (0.31, -0.52)], dark, 0.14)
    canvas.stroke([(-0.04, -0.02), (-0.04, -0.88)], lit, 0.07)


def flower(canvas: Canvas, light: Light, petals: Colour) -> None:
    r"""Five round petals around a yellow centre, on a stem."""
    canvas.stroke([(0, 0), (0, -0.6)], light.on((52, 132, 60)), 0.11)
    for x, y in ((0, -0.98), (0.26, -0.78), (0.16, -0.48), (-0.16, -0.48), (-0.26, -0.78)):
        canvas.oval(x, y, 0.19, 0.19, light.bright(petals))
    canvas.oval(0, -0.70, 0.15, 0.15, light.bright((255, 222, 84)))


def reeds(canvas: Canvas, light: Light) -> None:
    r"""Three blades, one with a brown head."""
    green = light.on((52, 128, 66))
    for lean in (-0.22, 0.04, 0.26):
        canvas.stroke([(lean * 0.3, 0), (lean, -0.9 + abs(lean))], green, 0.08)
    canvas.stroke([(0.04, -0.78), (0.05, -1.0)], light.on((120, 70, 40)), 0.15)
