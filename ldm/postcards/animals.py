r"""Animals: a head seen from the front on a bust, a sitting or a standing body.

A head is drawn around its centre, about 0.6 units wide. Outlines are a darker tone of the fur.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ldm.postcards import garments
from ldm.postcards.canvas import Canvas, smooth
from ldm.postcards.colour import INK, WHITE, Colour, Light, mix
from ldm.postcards.scene import Animal

LINE = 0.024
_PINK: Colour = (248, 158, 164)
_NOSE: Colour = (52, 38, 48)
_DARK = ("black", "brown", "grey")  # fur
_IRISES: tuple[Colour, ...] = ((112, 204, 96), (255, 206, 60), (96, 184, 244))

# Half the width and half the height of each head; position and radius of its eyes (x, y, r).
HEAD = {"dog": (0.27, 0.28), "cat": (0.31, 0.26), "rabbit": (0.27, 0.25), "bear": (0.31, 0.28)}
EYES = {"dog": (0.120, -0.050, 0.054), "cat": (0.135, -0.020, 0.066), "rabbit": (0.120, -0.025, 0.056),
    "bear": (0.125, -0.050, 0.048)}  # fmt: skip


@dataclass(frozen=True)
class Coat:
    r"""The tones of one animal's fur in one light, and what varies from one of its kind to the next."""

    fur: Colour
    dark: Colour
    belly: Colour
    line: Colour
    pink: Colour
    variant: int  # 0 or 1


def _coat(fur: Colour, light: Light | None, variant: int) -> Coat:
    def lit(colour: Colour) -> Colour:
        return mix(light.vivid(colour), colour, 0.3) if light else colour

    pale = sum(fur) > 720
    belly = mix(fur, WHITE, 0.45) if not pale else (236, 228, 228)
    dark = mix(fur, INK, 0.16 if pale else 0.30)
    line = mix(fur, INK, 0.55 if pale else 0.8)
    return Coat(lit(fur), lit(dark), lit(belly), lit(line), lit(_PINK), variant)


def animal(
    what: Animal,
    fur: Colour,
    canvas: Canvas,
    light: Light | None,
    rng: np.random.Generator,
    odd_eyes: bool = False,
) -> None:
    r"""Draw the animal with its pose's origin at the canvas's origin.

    The origin is the head's centre in a portrait, and the ground below a sitting or standing animal, which is one unit
    tall (with its head, without what rises above it). `light` is None before a wall. `odd_eyes` draws a fault that
    generated images may have: two eyes of different colours.
    """
    coat = _coat(fur, light, int(rng.integers(2)))
    tilt = rng.uniform(-0.09, 0.09)
    if what.pose == "portrait":
        canvas.oval(0, 0.60, 0.37, 0.38, coat.fur, LINE, coat.line)
        canvas.oval(0, 0.66, 0.19, 0.30, coat.belly)
        face = canvas.at(0, 0, tilt=tilt)
    elif what.pose == "sitting":
        _sitting(what.kind, coat, canvas)
        face = canvas.at(0, -0.66, 1.05, tilt)
    else:
        _standing(what.kind, coat, canvas)
        face = canvas.at(0.34, -0.66, 1.0, tilt)
    _head(what, coat, face, rng, odd_eyes)


def _head(what: Animal, coat: Coat, face: Canvas, rng: np.random.Generator, odd_eyes: bool) -> None:
    worn = {garment.kind: garment.colour for garment in what.wears}
    scarf, eyes, glasses, hat = (np.random.default_rng(seed) for seed in rng.integers(2**63, size=4))
    half_width, half_height = HEAD[what.kind]
    if "scarf" in worn:  # under the chin, over the shoulders
        with face.marked("scarf"):
            garments.scarf(face, half_height, worn["scarf"], scarf)
    _HEADS[what.kind](face, coat)
    eye_x, eye_y, _ = EYES[what.kind]
    _eyes(what, coat, face, eyes, odd_eyes, "glasses" in worn)
    if "glasses" in worn:
        with face.marked("glasses"):
            garments.glasses(face, eye_x, eye_y, half_width, pale=what.fur in ("black", "brown"), rng=glasses)
    if "hat" in worn:
        with face.marked("hat"):
            garments.hat(face, half_height, worn["hat"], hat)


def _eyes(what: Animal, coat: Coat, face: Canvas, rng: np.random.Generator, odd: bool, glasses: bool) -> None:
    x, y, r = EYES[what.kind]
    first = rng.integers(len(_IRISES))
    for side in (-1, 1):
        iris = _IRISES[(first + (odd and side > 0)) % len(_IRISES)]
        if what.kind == "cat":
            face.oval(side * x, y, r, r, iris, 0.018, coat.line)
            face.oval(side * x, y, r * 0.42, r * 0.80, (26, 22, 30))
        else:
            if glasses or what.fur in _DARK:  # from which dark eyes would not stand out
                face.oval(side * x, y, r * 1.36, r * 1.36, (248, 246, 240))
            face.oval(side * x, y, r, r, iris if odd and side > 0 else (36, 28, 36))
        face.oval(side * x - r * 0.30, y - r * 0.36, r * 0.38, r * 0.38, WHITE)


def _sitting(kind: str, coat: Coat, canvas: Canvas) -> None:
    r"""A pear-shaped body with two front paws, seen from the front."""
    if kind in ("dog", "cat"):
        tail = [(0.20, -0.10), (0.40, -0.24)]
        if kind == "cat":
            tail = [(0.20, -0.08), (0.42, -0.10), (0.46, -0.34)]
        canvas.stroke(tail, coat.line, 0.135)
        canvas.stroke(tail, coat.dark, 0.09)
    if kind == "rabbit":
        canvas.oval(0.30, -0.12, 0.09, 0.09, coat.belly, LINE, coat.line)
    body = [(-0.14, -0.50), (0.14, -0.50), (0.27, -0.20), (0.30, -0.04), (0.16, 0.0), (-0.16, 0.0),
        (-0.30, -0.04), (-0.27, -0.20)]  # fmt: skip
    canvas.shape(smooth(body), coat.fur, LINE, coat.line)
    canvas.oval(0, -0.24, 0.14, 0.20, coat.belly)
    for side in (-1, 1):
        canvas.oval(side * 0.125, -0.035, 0.105, 0.065, coat.fur, LINE, coat.line)


def _standing(kind: str, coat: Coat, canvas: Canvas) -> None:
    r"""A body seen from the side, the head on the right; far legs are darker."""
    if kind == "rabbit":
        canvas.oval(-0.46, -0.36, 0.09, 0.09, coat.belly, LINE, coat.line)
    elif kind == "bear":
        canvas.oval(-0.47, -0.42, 0.06, 0.06, coat.fur, LINE, coat.line)
    else:
        tail = [(-0.38, -0.42), (-0.60, -0.66)]
        if kind == "cat":
            tail = [(-0.38, -0.40), (-0.56, -0.52), (-0.58, -0.80)]
        canvas.stroke(tail, coat.line, 0.135)
        canvas.stroke(tail, coat.dark, 0.09)
    wide = 0.17 if kind == "bear" else 0.13
    for x, colour in ((-0.20, coat.dark), (0.32, coat.dark), (-0.34, coat.fur), (0.18, coat.fur)):
        canvas.shape([(x - wide / 2, -0.3), (x + wide / 2, -0.3), (x + wide / 2, 0), (x - wide / 2, 0)],
            colour, LINE, coat.line)  # fmt: skip
    canvas.shape(smooth([(-0.40, -0.52), (0.0, -0.55), (0.34, -0.52), (0.42, -0.36), (0.32, -0.20),
        (-0.30, -0.18), (-0.46, -0.34)]), coat.fur, LINE, coat.line)  # fmt: skip
    for x in (-0.34, 0.18):  # the near legs grow out of the body
        canvas.oval(x, -0.24, wide / 2 - LINE / 2, 0.10, coat.fur)


def _mouth(face: Canvas, y: float, half: float) -> None:
    r"""A smile of two arcs."""
    t = np.linspace(-1, 1, 11)
    face.stroke(np.stack([half * t, y + 0.046 * np.sin(1.15 * np.pi * np.abs(t))], axis=1), _NOSE, 0.020)


def _dog(face: Canvas, coat: Coat) -> None:
    r"""Hanging ears; the second variant has a pale blaze and ears that stand out."""
    outline = [(0, -0.29), (0.20, -0.24), (0.27, -0.02), (0.21, 0.20), (0, 0.30), (-0.21, 0.20),
        (-0.27, -0.02), (-0.20, -0.24)]  # fmt: skip
    face.shape(smooth(outline), coat.fur, LINE, coat.line)
    if coat.variant:
        face.shape(
            smooth([(0, -0.28), (0.07, -0.10), (0.05, 0.10), (-0.05, 0.10), (-0.07, -0.10)]), coat.belly
        )
    ear = [(0.14, -0.27), (0.27, -0.27), (0.37, -0.10), (0.39, 0.10), (0.32, 0.18), (0.25, 0.09),
        (0.22, -0.08)]  # fmt: skip
    if coat.variant:
        ear = [(0.12, -0.27), (0.28, -0.31), (0.44, -0.20), (0.45, 0.00), (0.36, 0.05), (0.28, -0.04),
            (0.22, -0.12)]  # fmt: skip
    for side in (-1, 1):
        face.shape(smooth(np.array(ear) * (side, 1)), coat.dark, LINE, coat.line)
    face.oval(0, 0.145, 0.165, 0.110, coat.belly)
    _mouth(face, 0.18, 0.10)
    face.oval(0, 0.090, 0.072, 0.052, _NOSE)


def _cat(face: Canvas, coat: Coat) -> None:
    r"""Pointed ears; the first variant has stripes on its forehead."""
    ear = np.array([(0.06, -0.22), (0.27, -0.44), (0.31, -0.06)])
    inner = np.array([(0.14, -0.22), (0.245, -0.35), (0.26, -0.14)])
    for side in (-1, 1):
        face.shape(ear * (side, 1), coat.fur, LINE, coat.line)
        face.shape(inner * (side, 1), coat.pink)
    face.oval(0, 0, *HEAD["cat"], coat.fur, LINE, coat.line)
    if not coat.variant:
        for x, low in ((-0.085, -0.14), (0, -0.11), (0.085, -0.14)):
            face.shape([(x - 0.028, -0.245), (x + 0.028, -0.245), (x * 0.9, low)], coat.dark)
    whisker = mix(coat.fur, WHITE, 0.7) if sum(coat.fur) < 400 else mix(coat.fur, INK, 0.45)
    for side in (-1, 1):
        for rise in (0.0, 0.07):
            face.stroke([(side * 0.19, 0.125 + rise * 0.5), (side * 0.40, 0.09 + rise * 1.5)], whisker, 0.018)
        face.oval(side * 0.065, 0.130, 0.092, 0.074, coat.belly)
    _mouth(face, 0.130, 0.09)
    face.shape([(-0.050, 0.062), (0.050, 0.062), (0, 0.120)], (238, 104, 128))


def _rabbit(face: Canvas, coat: Coat) -> None:
    r"""Long ears; in the second variant one of them is folded outwards."""
    for side in (-1, 1):
        lean = side * (0.24 if not coat.variant else 0.10)
        face.oval(side * 0.145, -0.35, 0.086, 0.23, coat.fur, LINE, coat.line, tilt=lean)
        face.oval(side * 0.145, -0.34, 0.042, 0.165, coat.pink, tilt=lean)
    face.oval(0, 0, *HEAD["rabbit"], coat.fur, LINE, coat.line)
    for side in (-1, 1):
        face.oval(side * 0.185, 0.085, 0.050, 0.038, coat.pink)
        face.oval(side * 0.060, 0.115, 0.082, 0.066, coat.belly)
    face.shape([(-0.042, 0.135), (0.042, 0.135), (0.038, 0.215), (-0.038, 0.215)], WHITE, 0.014, coat.line)
    _mouth(face, 0.117, 0.09)
    face.shape([(-0.046, 0.052), (0.046, 0.052), (0, 0.106)], (238, 104, 128))


def _bear(face: Canvas, coat: Coat) -> None:
    r"""Round ears; the second variant has a darker brow."""
    for side in (-1, 1):
        face.oval(side * 0.240, -0.215, 0.110, 0.110, coat.fur, LINE, coat.line)
        face.oval(side * 0.240, -0.215, 0.058, 0.058, coat.pink if coat.variant else coat.dark)
    face.oval(0, 0, *HEAD["bear"], coat.fur, LINE, coat.line)
    face.oval(0, 0.135, 0.160, 0.122, coat.belly)
    _mouth(face, 0.170, 0.09)
    face.oval(0, 0.085, 0.074, 0.052, _NOSE)


_HEADS: dict[str, Callable[[Canvas, Coat], None]] = {"dog": _dog, "cat": _cat, "rabbit": _rabbit,
    "bear": _bear}  # fmt: skip
