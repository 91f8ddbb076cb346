r"""What one sees: how a wrong image differs from the right one, measured and given a name.

Each symptom is a simple measure with a threshold. They are crude, but they are computed: when the model changes, every
exhibit moves to the symptom that it then shows.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

# Each symptom, with the end of the sentence "My images are ...".
SYMPTOMS = {
    "black": "black, or one colour",
    "noise": "noise, or mottled",
    "striped": "striped",
    "dark": "too dark",
    "bright": "too bright, or pale",
    "contrasted": "too contrasted",
    "washed out": "washed out",
    "blurred": "blurred",
    "shifted": "shifted by some pixels",
    "prompt": "good, but they ignore the prompt or part of it",
    "another": "good, but not those that the reference generates",
    "details": "nearly right: details have moved",
    "nearly": "nearly right: the numbers differ, but the eye sees nothing",
    "same": "the same, byte for byte",
    "refused": "not generated at all: there is an error instead",
    "admitted": "generated where there should be an error",
}

# Mean differences, of 255: above the first one sees something, above the second it is another image.
VISIBLE, ANOTHER = 1.0, 12.0
REACH = 6  # pixels: how far a shift is looked for


@dataclass(frozen=True)
class Measures:
    """Numbers about a wrong image, beside the right one."""

    difference: float  # mean over pixels and colours, of 255
    largest: float  # of 255
    contrast: float  # the standard deviation, in units of the right image's
    detail: float  # the mean difference of neighbouring pixels, in units of the right image's
    grain: float  # the same for the median, which is that of flat regions
    direction: float  # detail along one axis over detail along the other, in units of the right image's
    shift: tuple[int, int]  # pixels to the right and down by which the wrong image fits best
    unshifted: float  # of the difference, how much is left after the shift is undone
    brightness: float  # the mean, in units of the right image's


def measures(right: Image.Image, wrong: Image.Image) -> Measures:
    """Both images as they are; a wrong one of another size is resized first."""
    if wrong.size != right.size:
        wrong = wrong.resize(right.size)
    a, b = (np.asarray(image.convert("RGB"), dtype=np.float64) for image in (right, wrong))
    gap = np.abs(a - b)
    shift, left = _best_shift(a, b)
    across, down = (_roughness(b, axis).mean() / max(1.0, _roughness(a, axis).mean()) for axis in (1, 0))
    flat_a, flat_b = (sum(float(np.median(_roughness(x, axis))) for axis in (0, 1)) for x in (a, b))
    return Measures(
        difference=float(gap.mean()),
        largest=float(gap.max()),
        contrast=float(b.std() / max(1.0, a.std())),
        detail=float(across + down) / 2,
        grain=flat_b / max(0.5, flat_a),
        direction=float(max(across, down) / max(1e-9, min(across, down))),
        shift=shift,
        unshifted=left / max(1e-9, float(gap.mean())),
        brightness=float(b.mean() / max(1.0, a.mean())),
    )


def _roughness(pixels: np.ndarray, axis: int) -> np.ndarray:
    """How much neighbouring pixels differ along an axis, on average over the colours."""
    return np.asarray(np.abs(np.diff(pixels, axis=axis)).mean(axis=2))


def _best_shift(a: np.ndarray, b: np.ndarray) -> tuple[tuple[int, int], float]:
    """The shift of b that brings it closest to a, and the difference that remains, away from the edges."""
    inner = slice(REACH, -REACH)
    steps = range(-REACH, REACH + 1)
    found = {
        (x, y): float(np.abs(np.roll(b, (-y, -x), (0, 1))[inner, inner] - a[inner, inner]).mean())
        for x in steps
        for y in steps
    }
    best = min(found, key=lambda shift: (round(found[shift], 6), abs(shift[0]) + abs(shift[1])))
    return best, found[best]


def symptom(m: Measures, follows: float = 1.0) -> str:
    """The name of what one sees. `follows`: the wrong image's CLIP similarity with the prompt over the right one's."""
    if m.difference == 0:
        return "same"
    if m.difference < VISIBLE:
        return "nearly"
    if m.contrast < 0.15:
        return "black"
    if m.direction > 1.6 and m.detail > 1.3 or m.direction > 1.35 and m.grain > 2.5:
        return "striped"
    if m.grain > 2.5:
        return "noise"
    if m.shift != (0, 0) and m.unshifted < 0.6:
        return "shifted"
    if m.brightness < 0.65:
        return "dark"
    if m.brightness > 1.25:
        return "bright"
    if m.detail < 0.55 * m.contrast:
        return "blurred"
    if follows < 0.85:
        return "prompt"
    if m.contrast < 0.8:
        return "washed out"
    if m.contrast > 1.25:
        return "contrasted"
    if m.detail < 0.6 * m.contrast:
        return "blurred"
    return "another" if m.difference > ANOTHER else "details"
