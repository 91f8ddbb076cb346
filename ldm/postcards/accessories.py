r"""What an animal may wear: glasses, a hat or a scarf, in the coordinates of its face (see `portrait.py`)."""

from __future__ import annotations

import numpy as np

from ldm.postcards.palette import WHITE, Colour, mix
from ldm.postcards.shapes import Canvas, smooth

_LINE = 0.022
_LENS = 0.108
_FRAME: Colour = (30, 26, 38)
_HATS: tuple[tuple[Colour, Colour], ...] = (
    ((64, 60, 84), (228, 66, 70)),
    ((196, 48, 62), (255, 214, 92)),
    ((50, 84, 180), (255, 214, 92)),
    ((112, 66, 44), (250, 226, 178)),
)
_SCARVES: tuple[tuple[Colour, Colour], ...] = (
    ((216, 48, 60), (255, 244, 236)),
    ((44, 96, 206), (255, 220, 96)),
    ((46, 146, 88), (255, 246, 220)),
    ((128, 66, 180), (255, 196, 222)),
)


def lenses(face: Canvas, eye_x: float, eye_y: float) -> None:
    r"""Two pale discs. Drawn before the eyes, so that the eyes stay clear."""
    for side in (-1, 1):
        face.oval(side * max(eye_x, 0.13), eye_y, _LENS, _LENS, (222, 240, 255), alpha=225)


def frames(face: Canvas, eye_x: float, eye_y: float, half_head: float, pale_rim: bool) -> None:
    r"""Round dark frames over the eyes, with a bridge and two arms; a pale rim makes them visible on black fur."""
    x = max(eye_x, 0.13)
    coats = ([(WHITE, 0.062)] if pale_rim else []) + [(_FRAME, 0.036)]
    for colour, width in coats:
        for side in (-1, 1):
            turn = np.linspace(0, 2 * np.pi, 40)
            ring = np.stack([side * x + _LENS * np.cos(turn), eye_y + _LENS * np.sin(turn)], axis=1)
            face.stroke(ring, colour, width)
            face.stroke([(side * (x + _LENS), eye_y - 0.01), (side * half_head, eye_y - 0.03)], colour, width)
    face.stroke([(-(x - _LENS), eye_y - 0.02), (x - _LENS, eye_y - 0.02)], _FRAME, 0.036)


def hat(face: Canvas, half_height: float, rng: np.random.Generator) -> None:
    r"""A top hat with a wide brim and a bright ribbon."""
    felt, ribbon = _HATS[rng.integers(len(_HATS))]
    top = face.at(0, -half_height + 0.055)
    top.shape([(-0.17, 0), (-0.155, -0.23), (0.155, -0.23), (0.17, 0)], felt, _LINE)
    top.oval(0, -0.23, 0.155, 0.032, mix(felt, WHITE, 0.2), _LINE)
    top.shape([(-0.168, -0.015), (-0.162, -0.095), (0.162, -0.095), (0.168, -0.015)], ribbon)
    top.oval(0, 0, 0.29, 0.048, felt, _LINE)


def scarf(face: Canvas, half_height: float, rng: np.random.Generator) -> None:
    r"""A striped scarf around the neck, with one end hanging down."""
    wool, stripe = _SCARVES[rng.integers(len(_SCARVES))]
    neck = face.at(0, half_height + 0.035)
    neck.shape([(0.07, 0), (0.21, 0), (0.25, 0.32), (0.10, 0.34)], wool, _LINE)
    neck.shape([(0.095, 0.17), (0.228, 0.155), (0.236, 0.225), (0.100, 0.24)], stripe)
    band = [(-0.29, -0.06), (0, 0.01), (0.29, -0.06), (0.30, 0.05), (0, 0.115), (-0.30, 0.05)]
    neck.shape(smooth(band), wool, _LINE)
    for x in (-0.20, -0.05, 0.10):
        sag = 0.045 * (1 - (x / 0.3) ** 2)
        neck.shape(
            [(x, -0.035 + sag), (x + 0.075, -0.035 + sag), (x + 0.075, 0.055 + sag), (x, 0.055 + sag)], stripe
        )
