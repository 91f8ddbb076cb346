r"""What the weather puts in front of a landscape: rain, snowflakes, banks of fog."""

from __future__ import annotations

import numpy as np

from ldm.postcards.canvas import Canvas
from ldm.postcards.colour import WHITE, Light, mix


def fog_bank(canvas: Canvas, light: Light, y: float, thick: float, rng: np.random.Generator) -> None:
    r"""A bank of fog around the height y, behind which the distance fades."""
    colour = mix(light.horizon, light.middle, 0.4)
    for dy, alpha in ((0.0, 110), (0.35, 120), (0.7, 90)):
        x = rng.uniform(-0.2, 0.2)
        canvas.oval(0.5 + x, y + (dy - 0.35) * thick, 0.85, thick * 0.42, colour, alpha=alpha)


def falling(canvas: Canvas, weather: str, light: Light, rng: np.random.Generator) -> None:
    r"""Rain in slanting strokes or snow in large flakes, spread evenly over the image."""
    columns = 6
    slant = rng.uniform(-0.04, 0.04)
    for i in range(columns * columns):
        x = (i % columns + rng.uniform(0, 1)) / columns
        y = (i // columns + rng.uniform(0, 1)) / columns
        if weather == "snow":
            r = rng.uniform(0.009, 0.017)
            canvas.oval(x, y, r, r, WHITE if i % 3 else mix(WHITE, light.middle, 0.25))
        else:
            line = [(x, y), (x + slant, y + 0.085)]
            canvas.stroke(line, mix(light.horizon, WHITE, 0.35), 0.011, alpha=170)
