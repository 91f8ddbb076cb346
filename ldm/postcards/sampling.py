r"""Which scenes there are and how often: a random scene, with the held-out combinations kept out of training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np

from ldm.errors import LdmError
from ldm.postcards.facts import facts, labels
from ldm.postcards.scene import (
    ANIMALS,
    COLOURLESS,
    COLOURS,
    FURS,
    GARMENTS,
    PLACES,
    PLACES_WITH_WATER,
    POSES,
    RELIEFS,
    STYLES,
    SUBJECTS,
    THINGS,
    TIMES,
    WALLS,
    WEATHERS,
    Animal,
    Garment,
    Scene,
    Thing,
)

# A scene of which all facts of one of these sets are true is never trained on. The model sees each fact many times but
# never the whole set, so generating such a scene shows that it composes rather than memorises.
HELD_OUT = (
    {"desert", "house", "night"},
    {"sea", "balloon", "night"},
    {"forest", "mountains", "sunset"},
    {"meadow", "waterfall", "sunrise"},
    {"lake", "boat", "rain"},
    {"desert", "snow"},
    {"sea", "rainbow", "sunset"},
    {"forest", "watercolour", "night"},
    {"3 boat", "red boat"},
    {"2 house", "white house"},
    {"3 balloon", "yellow balloon"},
    {"purple flower", "meadow"},
    {"cat", "orange wall"},
    {"bear", "pink wall"},
    {"rabbit", "teal wall"},
    {"cat", "desert"},
    {"dog", "rain"},
    {"rabbit", "green scarf"},
    {"bear", "glasses", "hat"},
    {"black dog", "red hat"},
    {"2 dog", "scarf"},
    {"2 cat", "lake"},
)

_SPLITS = ("train", "held_out")
_LANDSCAPES = 0.6
_STYLES = {"plain": 0.80, "watercolour": 0.10, "print": 0.10}
_AT_NIGHT = {"clear": 0.76, "rain": 0.08, "snow": 0.08, "fog": 0.08, "rainbow": 0.0}
_BY_DAY = {"clear": 0.66, "rain": 0.08, "snow": 0.08, "fog": 0.08, "rainbow": 0.10}
_WORN = {0: 0.30, 1: 0.42, 2: 0.28}  # garments
_OBJECTS = {0: 0.20, 1: 0.42, 2: 0.24, 3: 0.14}  # things and animals in a landscape
_ALONE = {"portrait": 0.60, "sitting": 0.25, "standing": 0.15}  # poses of one animal before a wall
_ALIKE = 0.25  # the share of landscapes in which there are two or three things of a kind

Word = TypeVar("Word")


@dataclass(frozen=True)
class _World:
    r"""What the scenes of a world are made of."""

    places: tuple[str, ...]
    animals: tuple[str, ...]
    things: tuple[str, ...]
    weathers: tuple[str, ...]
    styles: tuple[str, ...]


@cache
def _world(subjects: frozenset[str]) -> _World:
    def chosen(words: Sequence[str], otherwise: tuple[str, ...] = ()) -> tuple[str, ...]:
        return tuple(word for word in words if word in subjects) or otherwise

    return _World(
        chosen(PLACES),
        chosen(ANIMALS),
        chosen(THINGS),
        chosen(WEATHERS, ("clear",)),
        chosen(STYLES, ("plain",)),
    )


def held_out(scene: Scene) -> bool:
    r"""Whether the scene contains a held-out set (see `HELD_OUT`); training never sees such a scene."""
    true = facts(labels(scene))
    return any(combination <= true for combination in HELD_OUT)


def sample_scene(
    rng: np.random.Generator, split: str = "train", subjects: Collection[str] = SUBJECTS
) -> Scene:
    r"""A random scene.

    `split` is "train" (no held-out combination) or "held_out" (at least one). `subjects` are the places, animals,
    things, weathers and styles of a smaller world; without weathers its skies are clear, without styles it is plain.
    Raises LdmError for an unknown split or subject, or if there is neither a place nor an animal.
    """
    if split not in _SPLITS:
        raise LdmError(f"split {split!r}: expected one of {', '.join(map(repr, _SPLITS))}")
    if unknown := sorted(set(subjects).difference(SUBJECTS)):
        raise LdmError(f"subjects {', '.join(unknown)}: expected some of {', '.join(SUBJECTS)}")
    world = _world(frozenset(subjects))
    if not world.places and not world.animals:
        raise LdmError(f"no subjects: expected some of {', '.join((*PLACES, *ANIMALS))}")
    for _ in range(10_000):
        outdoors = bool(world.places) and (not world.animals or rng.random() < _LANDSCAPES)
        scene = arranged((_landscape if outdoors else _before_a_wall)(world, rng), rng)
        if held_out(scene) == (split == "held_out"):
            return scene
    raise LdmError(f"no {split} scene shows {', '.join(sorted(subjects))}: expected other subjects")


def arranged(scene: Scene, rng: np.random.Generator) -> Scene:
    r"""The same things, placed at random: their slots, the animals' poses, and the side of the sun.

    A caption seldom names these, so drawings of one scene arranged anew are drawings of one caption. Things and animals
    take different slots on the ground, balloons different slots of the sky.
    """
    sky, ground = rng.permutation(3).tolist(), rng.permutation(3).tolist()
    if len(scene.animals) == 2:  # the middle stays free
        ground = [*choose(((0, 2), (2, 0)), rng), 1]
    elif scene.wall:
        ground = [choose((0, 1, 2), rng, {0: 0.2, 1: 0.6, 2: 0.2})]
    together = choose(POSES[:2], rng)
    animals = []
    for animal in scene.animals:
        if scene.place:
            pose = choose(POSES[1:], rng)
        else:
            pose = choose(POSES, rng, _ALONE) if len(scene.animals) == 1 else together
            ground = [1] if pose == "standing" else ground  # as wide as the wall
        animals.append(replace(animal, slot=ground.pop(0), pose=pose))
    things = [replace(t, slot=(sky if t.kind == "balloon" else ground).pop(0)) for t in scene.things]
    return replace(
        scene,
        sun=choose(("left", "right"), rng) if scene.place else "",
        things=tuple(sorted(things, key=lambda t: (THINGS.index(t.kind), t.slot))),
        animals=tuple(sorted(animals, key=lambda a: a.slot)),
    )


def _before_a_wall(world: _World, rng: np.random.Generator) -> Scene:
    wall, style, count = choose(WALLS, rng), choose(world.styles, rng, _STYLES), 1 + (rng.random() < 0.3)
    return Scene(wall=wall, style=style, animals=tuple(_animal(world.animals, rng) for _ in range(count)))


def _landscape(world: _World, rng: np.random.Generator) -> Scene:
    place, relief, time = choose(world.places, rng), choose(RELIEFS, rng), choose(TIMES, rng)
    weather = choose(world.weathers, rng, _AT_NIGHT if time == "night" else _BY_DAY)
    style = choose(world.styles, rng, _STYLES)
    # In a print, black contours around a hundred drops or flakes would hide everything else.
    if style == "print" and weather in ("rain", "snow") and "plain" in world.styles:
        style = "plain"
    alike, count, beasts = rng.random() < _ALIKE, choose((0, 1, 2, 3), rng, _OBJECTS), 0
    if alike:
        count = choose((2, 3), rng)
    elif world.animals and count and rng.random() < 0.55:
        beasts = 1 + (count > 1 and rng.random() < 0.35)
    animals = tuple(_animal(world.animals, rng) for _ in range(beasts))
    allowed = [kind for kind in world.things if kind != "boat" or place in PLACES_WITH_WATER]
    allowed = [kind for kind in allowed if kind != "waterfall" or not alike]
    things: list[Thing] = []
    for _ in range(count - beasts if allowed else 0):
        kind = choose(allowed, rng)
        colour = choose(COLOURS, rng)
        if alike and things:
            kind, colour = things[0].kind, things[0].colour if rng.random() < 0.7 else colour
        if kind != "waterfall" or not things:  # there is at most one, and it stands alone or behind animals
            things.append(Thing(kind, "" if kind in COLOURLESS else colour, 0))
    return Scene(place, relief, time, weather, "", "", style, tuple(things), animals)


def _animal(kinds: Sequence[str], rng: np.random.Generator) -> Animal:
    fur, count = choose(FURS, rng), choose((0, 1, 2), rng, _WORN)
    worn = [GARMENTS[i] for i in sorted(rng.choice(len(GARMENTS), count, replace=False).tolist())]
    colours = [colour for colour in COLOURS if colour != fur]  # a white scarf on white fur could not be seen
    wears = tuple(Garment(kind, "" if kind in COLOURLESS else choose(colours, rng)) for kind in worn)
    return Animal(choose(kinds, rng), fur, wears, "", 0)


def choose(
    words: Sequence[Word], rng: np.random.Generator, weights: Mapping[Word, float] | None = None
) -> Word:
    r"""One of the words, with equal probability or in proportion to its weight."""
    if weights is None:
        return words[int(rng.integers(len(words)))]
    sums = np.cumsum([weights[word] for word in words])
    return words[int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))]
