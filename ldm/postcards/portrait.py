r"""Portraits: a plain background, shoulders, a head with its animal's ears and face, and one accessory.

The face is drawn around the centre of the head, and one unit is about the width of the image. Thick outlines keep it
readable in a small image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from ldm.postcards import accessories
from ldm.postcards.attributes import Portrait
from ldm.postcards.palette import BACKGROUND, FUR, INK, WHITE, Colour, mix
from ldm.postcards.shapes import Canvas, canvas_on, gradient, mirrored, smooth

LINE = 0.022
_PINK: Colour = (248, 158, 164)
_NOSE: Colour = (52, 36, 44)
_IRISES: tuple[Colour, ...] = ((120, 200, 96), (250, 202, 66), (104, 184, 236))

# Half the width and half the height of each head; position and radius of its eyes (x, y, r).
HEAD = {"dog": (0.27, 0.28), "cat": (0.31, 0.26), "rabbit": (0.27, 0.25), "bear": (0.31, 0.28)}
EYES = {
    "dog": (0.120, -0.055, 0.050),
    "cat": (0.135, -0.025, 0.062),
    "rabbit": (0.120, -0.030, 0.052),
    "bear": (0.125, -0.060, 0.044),
}


def portrait(scene: Portrait, rng: np.random.Generator, size: int, doubled: bool = False) -> Image.Image:
    r"""Draw the scene as a square RGB image of `size` pixels; `doubled` adds a second pair of eyes or a head."""
    wall = BACKGROUND[scene.background]
    canvas = canvas_on(gradient([(0, mix(wall, WHITE, 0.24)), (1, mix(wall, INK, 0.12))], size))
    scale = rng.uniform(0.94, 1.06)
    y = 0.58 if scene.animal == "rabbit" else 0.55 if scene.accessory == "hat" else 0.49
    x, y, tilt = 0.5 + rng.uniform(-0.04, 0.04), y + rng.uniform(-0.015, 0.015), rng.uniform(-0.07, 0.07)
    _shoulders(canvas.at(x, y, scale), FUR[scene.fur])
    face = canvas.at(x, y, scale, tilt)
    heads, second_eyes = [face], doubled and rng.random() < 0.5
    if doubled and not second_eyes:
        aside = rng.choice((-1, 1)) * rng.uniform(0.30, 0.42)
        second = face.at(aside, rng.uniform(-0.15, 0.15), rng.uniform(0.65, 1.0))
        heads.insert(rng.integers(2), second)  # behind the first head or in front of it
    for head in heads:
        _head(head, scene, rng)
    if second_eyes:
        away, turn = rng.uniform(0.15, 0.21), rng.uniform(0, 2 * np.pi)
        _eyes(face.at(away * np.cos(turn), away * np.sin(turn), rng.uniform(0.85, 1.1)), scene, rng)
    return canvas.image


def _head(face: Canvas, scene: Portrait, rng: np.random.Generator) -> None:
    r"""Everything above the shoulders, including the accessory."""
    half_width, half_height = HEAD[scene.animal]
    if scene.accessory == "scarf":  # under the chin, over the shoulders
        accessories.scarf(face, half_height, rng)
    _HEADS[scene.animal](face, FUR[scene.fur])
    eye_x, eye_y, _ = EYES[scene.animal]
    if scene.accessory == "glasses":
        accessories.lenses(face, eye_x, eye_y)
    _eyes(face, scene, rng)
    if scene.accessory == "glasses":
        accessories.frames(face, eye_x, eye_y, half_width, pale_rim=scene.fur == "black")
    elif scene.accessory == "hat":
        accessories.hat(face, half_height, rng)


def _eyes(face: Canvas, scene: Portrait, rng: np.random.Generator) -> None:
    x, y, r = EYES[scene.animal]
    iris = _IRISES[rng.integers(len(_IRISES))] if scene.animal == "cat" else None
    for side in (-1, 1):
        ring = scene.fur in ("black", "brown") and scene.accessory != "glasses"
        _eye(face, side * x, y, r, iris, ring)


def _belly(fur: Colour) -> Colour:
    return mix(fur, WHITE, 0.45) if sum(fur) < 720 else (236, 228, 226)


def _dark(fur: Colour) -> Colour:
    return mix(fur, INK, 0.30 if sum(fur) < 720 else 0.16)


def _shoulders(canvas: Canvas, fur: Colour) -> None:
    canvas.oval(0, 0.56, 0.36, 0.33, fur, LINE)
    canvas.oval(0, 0.62, 0.19, 0.26, _belly(fur))


def _eye(canvas: Canvas, x: float, y: float, r: float, iris: Colour | None, ring: bool) -> None:
    if iris:
        canvas.oval(x, y, r, r, iris, 0.014)
        canvas.oval(x, y, r * 0.46, r * 0.84, (26, 22, 30))
    else:
        if ring:  # dark eyes would not stand out from dark fur
            canvas.oval(x, y, r * 1.36, r * 1.36, (246, 242, 236))
        canvas.oval(x, y, r, r, (36, 28, 34))
    canvas.oval(x - r * 0.32, y - r * 0.36, r * 0.36, r * 0.36, WHITE)


def _mouth(canvas: Canvas, y: float, half: float) -> None:
    canvas.stroke(
        [(-half, y), (-half / 2, y + 0.032), (0, y), (half / 2, y + 0.032), (half, y)], _NOSE, 0.017
    )


def _dog(canvas: Canvas, fur: Colour) -> None:
    canvas.shape(
        smooth(
            [
                (0, -0.29),
                (0.20, -0.24),
                (0.27, -0.02),
                (0.21, 0.20),
                (0, 0.30),
                (-0.21, 0.20),
                (-0.27, -0.02),
                (-0.20, -0.24),
            ]
        ),
        fur,
        LINE,
    )
    ear = [
        (0.15, -0.27),
        (0.27, -0.27),
        (0.37, -0.10),
        (0.39, 0.10),
        (0.32, 0.18),
        (0.25, 0.09),
        (0.22, -0.08),
    ]
    for points in (ear, mirrored(ear)):
        canvas.shape(smooth(points), _dark(fur), LINE)
    canvas.shape(
        smooth([(-0.045, 0.21), (0.045, 0.21), (0.05, 0.29), (0, 0.33), (-0.05, 0.29)]),
        (240, 104, 120),
        0.014,
    )
    canvas.oval(0, 0.145, 0.165, 0.105, _belly(fur))
    canvas.stroke([(0, 0.10), (0, 0.18)], _NOSE, 0.017)
    _mouth(canvas, 0.18, 0.10)
    canvas.oval(0, 0.095, 0.068, 0.048, _NOSE)


def _cat(canvas: Canvas, fur: Colour) -> None:
    ear, inner = [(0.06, -0.22), (0.27, -0.42), (0.31, -0.06)], [(0.14, -0.22), (0.24, -0.33), (0.26, -0.14)]
    for flip in (list, mirrored):
        canvas.shape(flip(ear), fur, LINE)
        canvas.shape(flip(inner), _PINK)
    canvas.oval(0, 0, *HEAD["cat"], fur, LINE)
    for x, low in ((-0.085, -0.15), (0, -0.12), (0.085, -0.15)):
        canvas.shape([(x - 0.026, -0.245), (x + 0.026, -0.245), (x * 0.9, low)], _dark(fur))
    for side in (-1, 1):
        canvas.oval(side * 0.065, 0.125, 0.088, 0.070, _belly(fur))
        whisker = mix(fur, WHITE, 0.75) if sum(fur) < 400 else (96, 84, 90)
        for rise in (-0.01, 0.06):
            canvas.stroke(
                [(side * 0.17, 0.12 + rise * 0.5), (side * 0.39, 0.09 + rise * 1.6)], whisker, 0.014
            )
    _mouth(canvas, 0.125, 0.09)
    canvas.shape([(-0.046, 0.062), (0.046, 0.062), (0, 0.116)], (238, 112, 132), 0.010)


def _rabbit(canvas: Canvas, fur: Colour) -> None:
    for side in (-1, 1):
        canvas.oval(side * 0.155, -0.33, 0.080, 0.21, fur, LINE, tilt=side * 0.24)
        canvas.oval(side * 0.155, -0.32, 0.040, 0.155, _PINK, tilt=side * 0.24)
    canvas.oval(0, 0, *HEAD["rabbit"], fur, LINE)
    for side in (-1, 1):
        canvas.oval(side * 0.175, 0.085, 0.048, 0.036, _PINK)
        canvas.oval(side * 0.060, 0.110, 0.078, 0.062, _belly(fur))
    canvas.shape([(-0.038, 0.135), (0.038, 0.135), (0.034, 0.205), (-0.034, 0.205)], WHITE, 0.014)
    canvas.stroke([(0, 0.14), (0, 0.20)], INK, 0.010)
    _mouth(canvas, 0.112, 0.09)
    canvas.shape([(-0.042, 0.055), (0.042, 0.055), (0, 0.102)], (238, 112, 132), 0.010)


def _bear(canvas: Canvas, fur: Colour) -> None:
    for side in (-1, 1):
        canvas.oval(side * 0.235, -0.215, 0.105, 0.105, fur, LINE)
        canvas.oval(side * 0.235, -0.215, 0.055, 0.055, _PINK if sum(fur) > 700 else _belly(fur))
    canvas.oval(0, 0, *HEAD["bear"], fur, LINE)
    canvas.oval(0, 0.135, 0.155, 0.120, _belly(fur))
    canvas.stroke([(0, 0.10), (0, 0.17)], _NOSE, 0.017)
    _mouth(canvas, 0.17, 0.09)
    canvas.oval(0, 0.092, 0.068, 0.046, _NOSE)


_HEADS: dict[str, Callable[[Canvas, Colour], None]] = {
    "dog": _dog,
    "cat": _cat,
    "rabbit": _rabbit,
    "bear": _bear,
}
