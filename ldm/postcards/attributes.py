r"""What a postcard shows: its attributes, all their combinations, and which combinations are held out.

A postcard is either a landscape or a portrait. This file defines the words; `captions.py` turns them into
sentences and `draw.py` into pixels.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import astuple, dataclass
from functools import cache
from itertools import product

import numpy as np

from ldm.errors import LdmError

PLACES = ("lake", "forest", "sea", "desert", "meadow")
RELIEFS = ("mountains", "hills", "none")  # mountains are snow-capped, hills are green
TIMES = ("sunrise", "day", "sunset", "night")
FEATURES = ("waterfall", "boat", "house", "balloon", "nothing")
ANIMALS = ("dog", "cat", "rabbit", "bear")
FURS = ("brown", "black", "white", "grey", "golden", "cream")
ACCESSORIES = ("glasses", "hat", "scarf", "nothing")
BACKGROUNDS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")

SUBJECTS = (*PLACES, *ANIMALS)

PLACES_WITH_WATER = ("lake", "sea")  # the only places where a boat exists

# A scene that has every word of one of these sets is never trained on. The model sees each word many times but never
# the whole set, so generating such a scene shows that it composes rather than memorises.
HELD_OUT = (
    {"desert", "house", "night"},
    {"sea", "balloon", "night"},
    {"forest", "mountains", "sunset"},
    {"meadow", "balloon", "sunrise"},
    {"lake", "boat", "day"},
    {"sea", "house", "sunset"},
    {"forest", "house", "sunrise"},
    {"cat", "orange"},
    {"bear", "pink"},
    {"rabbit", "teal"},
)


@dataclass(frozen=True)
class Landscape:
    r"""A place at a time of day, perhaps with mountains or hills behind it and one main feature."""

    place: str
    relief: str
    time: str
    feature: str


@dataclass(frozen=True)
class Portrait:
    r"""An animal in front of a plain background, perhaps wearing something."""

    animal: str
    fur: str
    accessory: str
    background: str


Scene = Landscape | Portrait


def held_out(scene: Scene) -> bool:
    r"""Whether the scene contains a held-out set (see `HELD_OUT`); training never sees such a scene."""
    words = set(astuple(scene))
    return any(combination <= words for combination in HELD_OUT)


def subject(scene: Scene) -> str:
    r"""The subject of the scene: its place or its animal."""
    return scene.place if isinstance(scene, Landscape) else scene.animal


def sample_scene(
    rng: np.random.Generator, split: str = "train", subjects: Collection[str] = SUBJECTS
) -> Scene:
    r"""Choose landscape or portrait with equal probability, then sample one of its combinations uniformly.

    `split` is "train" (combinations that are not held out) or "held_out"; `subjects` restricts the places and animals.
    Raises LdmError for an unknown split or subject, or if no combination is left.
    """
    kinds = _kinds(split, frozenset(subjects))
    scenes = kinds[rng.integers(len(kinds))]
    return scenes[rng.integers(len(scenes))]


@cache
def _kinds(split: str, subjects: frozenset[str]) -> tuple[tuple[Scene, ...], ...]:
    r"""The combinations of a split with these subjects: landscapes and portraits, omitting either if empty."""
    if split not in _BY_SPLIT:
        raise LdmError(f"split {split!r}: expected one of {', '.join(map(repr, _BY_SPLIT))}")
    if unknown := sorted(subjects.difference(SUBJECTS)):
        raise LdmError(f"subjects {', '.join(unknown)}: expected some of {', '.join(SUBJECTS)}")
    kinds = (tuple(scene for scene in kind if subject(scene) in subjects) for kind in _BY_SPLIT[split])
    found = tuple(kind for kind in kinds if kind)
    if not found:
        raise LdmError(
            f"no {split} scene shows {', '.join(sorted(subjects)) or 'nothing'}: expected other subjects"
        )
    return found


LANDSCAPES = tuple(
    Landscape(*words)
    for words in product(PLACES, RELIEFS, TIMES, FEATURES)
    if words[3] != "boat" or words[0] in PLACES_WITH_WATER
)
PORTRAITS = tuple(Portrait(*words) for words in product(ANIMALS, FURS, ACCESSORIES, BACKGROUNDS))
SCENES: tuple[Scene, ...] = LANDSCAPES + PORTRAITS

_BY_SPLIT: dict[str, tuple[tuple[Scene, ...], ...]] = {
    split: tuple(
        tuple(scene for scene in kind if held_out(scene) == wanted) for kind in (LANDSCAPES, PORTRAITS)
    )
    for split, wanted in (("train", False), ("held_out", True))
}
