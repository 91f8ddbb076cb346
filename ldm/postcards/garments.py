r"""What an animal may wear: glasses, a hat or a scarf, in the coordinates of its face (see `animals.py`)."""

from __future__ import annotations

import numpy as np

from ldm.postcards.canvas import Canvas, smooth
from ldm.postcards.colour import PAINT, WHITE, Colour, darker, mix

_LINE = 0.024
_FRAME: Colour = (34, 30, 44)


def glasses(
    face: Canvas, eye_x: float, eye_y: float, half_head: float, pale: bool, rng: np.random.Generator
) -> None:
    r"""Round or square frames around the eyes, with a bridge and two arms; `pale` frames show on dark fur."""
    colour = (250, 244, 226) if pale else _FRAME
    x, lens = max(eye_x, 0.135), 0.115
    turn = np.linspace(0, 2 * np.pi, 33)
    power = 1.0 if rng.integers(2) else 0.45  # below 1 the circle becomes a rounded square
    rim = np.stack([np.sign(f) * np.abs(f) ** power for f in (np.cos(turn), np.sin(turn))], axis=1) * (
        lens,
        lens * 0.95,
    )
    for side in (-1, 1):
        face.shape(rim[:-1] + (side * x, eye_y), (214, 236, 255), alpha=70)
        face.stroke(rim + (side * x, eye_y), colour, 0.040)
        face.stroke([(side * (x + lens), eye_y - 0.01), (side * half_head, eye_y - 0.04)], colour, 0.040)
    face.stroke([(-(x - lens), eye_y - 0.02), (x - lens, eye_y - 0.02)], colour, 0.040)


def hat(face: Canvas, half_height: float, colour: str, rng: np.random.Generator) -> None:
    r"""A top hat, a woollen hat with a bobble, or a sun hat."""
    felt, variant = PAINT[colour], rng.integers(3)
    line, ribbon = darker(felt, 0.6), WHITE if sum(felt) < 640 else darker(felt, 0.35)
    top = face.at(0, -half_height + 0.06)
    if variant == 0:
        top.shape([(-0.18, 0), (-0.165, -0.25), (0.165, -0.25), (0.18, 0)], felt, _LINE, line)
        top.shape([(-0.178, -0.015), (-0.172, -0.095), (0.172, -0.095), (0.178, -0.015)], ribbon)
        top.oval(0, 0, 0.30, 0.052, felt, _LINE, line)
    elif variant == 1:
        top.oval(0, -0.235, 0.070, 0.070, ribbon, _LINE, line)
        top.shape(smooth([(-0.25, 0.02), (-0.20, -0.14), (0, -0.22), (0.20, -0.14), (0.25, 0.02)]), felt,
            _LINE, line)  # fmt: skip
        top.shape(smooth([(-0.27, 0.05), (-0.26, -0.045), (0, -0.07), (0.26, -0.045), (0.27, 0.05),
            (0, 0.03)]), mix(felt, ribbon, 0.45), _LINE, line)  # fmt: skip
    else:
        top.shape(
            smooth([(-0.19, 0), (-0.15, -0.16), (0, -0.20), (0.15, -0.16), (0.19, 0)]), felt, _LINE, line
        )
        top.oval(0, 0.0, 0.37, 0.060, felt, _LINE, line)
        top.shape([(-0.185, -0.025), (-0.175, -0.085), (0.175, -0.085), (0.185, -0.025)], ribbon)


def scarf(face: Canvas, half_height: float, colour: str, rng: np.random.Generator) -> None:
    r"""A scarf around the neck with one or two ends hanging down, plain or with a pale stripe."""
    wool = PAINT[colour]
    line, stripe = darker(wool, 0.55), mix(wool, WHITE, 0.55) if sum(wool) < 690 else darker(wool, 0.25)
    neck = face.at(0, half_height + 0.030, facing=1 if rng.integers(2) else -1)
    striped, ends = rng.integers(2), 1 + rng.integers(2)
    for x in (0.08, -0.21)[:ends]:
        neck.shape([(x, 0), (x + 0.135, 0), (x + 0.17, 0.29), (x + 0.02, 0.31)], wool, _LINE, line)
        if striped:
            neck.shape([(x + 0.020, 0.17), (x + 0.148, 0.155), (x + 0.156, 0.225), (x + 0.026, 0.24)], stripe)
    band = [(-0.28, -0.075), (0, 0.0), (0.28, -0.075), (0.29, 0.05), (0, 0.125), (-0.29, 0.05)]
    neck.shape(smooth(band), wool, _LINE, line)
