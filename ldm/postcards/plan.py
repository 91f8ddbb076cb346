r"""What a caption says: the parts of a scene that it names, before they become words of a language."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ldm.postcards.scene import ANIMALS, COLOURLESS, GARMENTS, SLOTS, THINGS, Animal, Garment, Scene

# How often a partial caption names each part. What it leaves out may be in the drawing or not: silence says nothing.
NAMED = {
    "place": 0.92,
    "relief": 0.75,
    "time": 0.75,
    "weather": 0.80,
    "style": 0.75,
    "wall": 0.60,
    "thing": 0.80,
    "animal": 0.90,
    "colour": 0.65,
    "fur": 0.60,
    "garment": 0.80,
}
# How often any caption names these, full ones included.
SELDOM = {"side": 0.12, "pose": 0.10, "sun": 0.03, "lacks": 0.05, "relation": 0.35}


@dataclass(frozen=True)
class Group:
    r"""Things or animals that are named together: their kind, how many, and what is said of each of them.

    An empty `colour`, `side` or `pose` is not named, nor is the colour of a garment with an empty one.
    """

    kind: str
    count: int
    colour: str = ""
    side: str = ""
    pose: str = ""
    wears: tuple[Garment, ...] = ()
    lacks: str = ""  # a garment that is named as missing


@dataclass(frozen=True)
class Plan:
    r"""The parts of a scene that a caption names; empty where it says nothing.

    `left_of` says whether the first group is named as standing left of the second.
    """

    place: str = ""
    relief: str = ""
    time: str = ""
    weather: str = ""
    sun: str = ""
    style: str = ""
    wall: str = ""
    clear: bool = False  # whether the sky is clear, which only some words for the day say
    groups: tuple[Group, ...] = ()
    lacks: str = ""  # a kind of thing or animal that is named as missing
    left_of: bool = False

    @property
    def facts(self) -> frozenset[str]:
        r"""What the caption claims, in the words of `facts.py`."""
        said = {self.place, self.relief, self.time, self.weather, self.style} - {""}
        said |= {f"{self.wall} wall"} if self.wall else set()
        said |= {f"sun {self.sun}"} if self.sun else set()
        said |= {f"no {self.lacks}"} if self.lacks else set()
        for group in self.groups:
            kind = group.kind
            total = sum(other.count for other in self.groups if other.kind == kind)
            said |= {kind, f"{total} {kind}"}
            said |= {f"{group.colour} {kind}"} if group.colour else set()
            said |= {f"{kind} {group.side}"} if group.side else set()
            said |= {f"{kind} no {group.lacks}"} if group.lacks else set()
            for garment in group.wears:
                said.add(f"{kind} {garment.kind}")
                said |= {f"{group.colour} {kind} {garment.kind}"} if group.colour else set()
                said |= {f"{kind} {garment.colour} {garment.kind}"} if garment.colour else set()
        if self.left_of:
            said.add(f"{self.groups[0].kind} left of {self.groups[1].kind}")
        return frozenset(said)


def plan(scene: Scene, rng: np.random.Generator, partial: bool = True) -> Plan:
    r"""Choose what to name: everything but sides, poses and what is missing, or (with `partial`) less.

    A clear sky, a plain style and "none" are never put into words. Something is always named.
    """
    while True:
        planned = _planned(scene, rng, partial)
        if planned.place or planned.groups:
            return planned


def _planned(scene: Scene, rng: np.random.Generator, partial: bool) -> Plan:
    def named(part: str) -> bool:
        return not partial or rng.random() < NAMED[part]

    def seldom(part: str) -> bool:
        return rng.random() < SELDOM[part]

    groups = [*_things(scene, named), *_animals(scene, named, rng, partial)]
    groups = [groups[i] for i in rng.permutation(len(groups))]
    slots = {t.kind: t.slot for t in scene.things} | {a.kind: a.slot for a in scene.animals}
    alone = [sum(g.kind == group.kind for g in groups) == 1 == group.count for group in groups]
    poses = {animal.kind: animal.pose for animal in scene.animals}
    left_of = False
    if len(groups) > 1 and all(alone[:2]) and seldom("relation"):
        first, second = (slots[group.kind] for group in groups[:2])
        left_of = first != second
        if first > second:
            groups[:2] = groups[1::-1]
    for i, group in enumerate(groups):
        if alone[i] and not left_of and seldom("side"):
            groups[i] = group = replace(group, side=SLOTS[slots[group.kind]])
        if group.kind in poses and alone[i] and poses[group.kind] != "portrait" and seldom("pose"):
            groups[i] = replace(group, pose=poses[group.kind])
    missing = [kind for kind in (*THINGS, *ANIMALS) if kind not in slots]
    return Plan(
        place=scene.place if named("place") else "",
        relief=scene.relief if scene.relief != "none" and named("relief") else "",
        time=scene.time if named("time") else "",
        clear=scene.weather == "clear",
        weather=scene.weather if scene.weather != "clear" and named("weather") else "",
        sun=scene.sun if scene.sun_is_visible and seldom("sun") else "",
        style=scene.style if scene.style != "plain" and named("style") else "",
        wall=scene.wall if named("wall") else "",
        groups=tuple(groups),
        lacks=missing[rng.integers(len(missing))] if scene.place and seldom("lacks") else "",
        left_of=left_of,
    )


def _things(scene: Scene, named: Callable[[str], bool]) -> list[Group]:
    r"""One group for each kind, or for each colour of a kind if the colours differ and are named."""
    groups = []
    for kind in THINGS:
        found = [thing.colour for thing in scene.things if thing.kind == kind]
        if not found or not named("thing"):
            continue
        if kind in COLOURLESS or not named("colour"):
            groups.append(Group(kind, len(found)))
        else:
            groups += [Group(kind, found.count(colour), colour) for colour in dict.fromkeys(found)]
    return groups


def _animals(
    scene: Scene, named: Callable[[str], bool], rng: np.random.Generator, partial: bool
) -> list[Group]:
    r"""A group for each animal, or one for both if they are of a kind and nothing else of them is named apart."""
    two = len(scene.animals) == 2 and scene.animals[0].kind == scene.animals[1].kind
    if not scene.animals or not named("animal"):
        return []
    if two and partial and rng.random() < 0.5:
        first, second = scene.animals
        shared = tuple(garment for garment in first.wears if garment in second.wears and named("garment"))
        fur = first.fur if first.fur == second.fur and named("fur") else ""
        return [Group(first.kind, 2, fur, wears=shared)]
    groups = [_one(animal, named, rng) for animal in scene.animals]
    if two and replace(groups[0], lacks="") == replace(groups[1], lacks=""):
        return [replace(groups[0], count=2, lacks="")]
    return groups


def _one(animal: Animal, named: Callable[[str], bool], rng: np.random.Generator) -> Group:
    wears = [
        garment if garment.kind in COLOURLESS or named("colour") else replace(garment, colour="")
        for garment in animal.wears
        if named("garment")
    ]
    wears = [wears[i] for i in rng.permutation(len(wears))]
    missing = [kind for kind in GARMENTS if kind not in {garment.kind for garment in animal.wears}]
    lacks = missing[rng.integers(len(missing))] if rng.random() < SELDOM["lacks"] else ""
    return Group(animal.kind, 1, animal.fur if named("fur") else "", wears=tuple(wears), lacks=lacks)
