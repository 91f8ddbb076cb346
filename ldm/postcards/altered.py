r"""Hard negatives: a scene that differs from another one in a single respect, such as two colours exchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ldm.postcards.captions import caption_with_facts
from ldm.postcards.facts import facts, labels
from ldm.postcards.sampling import arranged, choose, held_out
from ldm.postcards.scene import (
    ANIMALS,
    COLOURS,
    FURS,
    PLACES_WITH_WATER,
    RELIEFS,
    STYLES,
    TIMES,
    WALLS,
    WEATHERS,
    Scene,
)


def altered(scene: Scene, rng: np.random.Generator) -> Scene:
    r"""`scene` with one random change, so that other facts are true of it.

    An animal or a thing is of another kind; two colours are exchanged, or one colour is another; a garment, a thing or
    an animal is missing; garments are worn by the other animal; the relief, the time, the weather, the wall or the
    style is another; or everything is arranged anew. Only a scene with a held-out combination may become one with
    another.
    """
    while True:
        other = choose(_CHANGES, rng)(scene, rng)
        if facts(labels(other)) != facts(labels(scene)) and held_out(other) <= held_out(scene):
            return other


def wrong_caption(scene: Scene, rng: np.random.Generator, mistakes: bool = True) -> str:
    r"""A full caption of `altered(scene)` that claims at least one thing that is false of `scene` itself.

    `mistakes` allows typing mistakes in a tenth of them.
    """
    true = facts(labels(scene))
    while True:
        found = caption_with_facts(altered(scene, rng), rng, partial=False, mistakes=mistakes)
        if not found.facts <= true:
            return found.text


def _another_animal(scene: Scene, rng: np.random.Generator) -> Scene:
    r"""Another kind of animal for one of them."""
    if not scene.animals:
        return scene
    i = int(rng.integers(len(scene.animals)))
    animals = list(scene.animals)
    animals[i] = replace(animals[i], kind=choose(ANIMALS, rng))
    return replace(scene, animals=tuple(animals))


def _another_thing(scene: Scene, rng: np.random.Generator) -> Scene:
    r"""Another kind for one of the things on the ground; a boat only where there is water."""
    kinds = ["boat", "house", "flower"] if scene.place in PLACES_WITH_WATER else ["house", "flower"]
    on_ground = [i for i, thing in enumerate(scene.things) if thing.kind in kinds]
    if not on_ground:
        return scene
    things, i = list(scene.things), choose(on_ground, rng)
    things[i] = replace(things[i], kind=choose(kinds, rng))
    return replace(scene, things=tuple(things))


def _exchanged(scene: Scene, rng: np.random.Generator) -> Scene:
    r"""Two of the colours of things and garments, exchanged."""
    found = _colours(scene)
    if len(found) < 2:
        return scene
    i, k = rng.choice(len(found), 2, replace=False).tolist()
    found[i], found[k] = found[k], found[i]
    return _coloured(scene, found)


def _recoloured(scene: Scene, rng: np.random.Generator) -> Scene:
    r"""Another colour for one of the things and garments."""
    found = _colours(scene)
    if not found:
        return scene
    found[int(rng.integers(len(found)))] = choose(COLOURS, rng)
    return _coloured(scene, found)


def _another_fur(scene: Scene, rng: np.random.Generator) -> Scene:
    furs = [animal.fur for animal in scene.animals]
    furs = furs[::-1] if len(set(furs)) > 1 else [choose(FURS, rng) for _ in furs]
    return replace(
        scene, animals=tuple(replace(a, fur=fur) for a, fur in zip(scene.animals, furs, strict=True))
    )


def _undressed(scene: Scene, rng: np.random.Generator) -> Scene:
    r"""One animal without one of its garments."""
    dressed = [animal for animal in scene.animals if animal.wears]
    if not dressed:
        return scene
    chosen = choose(dressed, rng)
    undressed = replace(chosen, wears=_without(chosen.wears, rng))
    return replace(
        scene, animals=tuple(undressed if animal is chosen else animal for animal in scene.animals)
    )


def _redressed(scene: Scene, rng: np.random.Generator) -> Scene:
    r"""Both animals, each with what the other one wears."""
    worn = [animal.wears for animal in scene.animals][::-1]
    return replace(
        scene, animals=tuple(replace(a, wears=w) for a, w in zip(scene.animals, worn, strict=True))
    )


def _fewer(scene: Scene, rng: np.random.Generator) -> Scene:
    r"""One thing or animal fewer."""
    if scene.things and (scene.wall or rng.random() < 0.6):
        return replace(scene, things=_without(scene.things, rng))
    if len(scene.animals) > 1 or (scene.place and scene.animals):
        return replace(scene, animals=_without(scene.animals, rng))
    return scene


def _elsewhere(scene: Scene, rng: np.random.Generator) -> Scene:
    r"""Another relief, time, weather, wall or style."""
    match choose(("style", "wall") if scene.wall else ("style", "relief", "time", "weather"), rng):
        case "style":
            return replace(scene, style=choose(STYLES, rng))
        case "wall":
            return replace(scene, wall=choose(WALLS, rng))
        case "relief":
            return replace(scene, relief=choose(RELIEFS, rng))
        case "time":
            return replace(scene, time=choose(TIMES, rng))
        case _:
            return replace(scene, weather=choose(WEATHERS, rng))


def _without(some: tuple[Any, ...], rng: np.random.Generator) -> tuple[Any, ...]:
    r"""All but one of them."""
    i = int(rng.integers(len(some)))
    return some[:i] + some[i + 1 :]


_CHANGES: tuple[Callable[[Scene, np.random.Generator], Scene], ...] = (
    _another_animal,
    _another_thing,
    _exchanged,
    _recoloured,
    _another_fur,
    _undressed,
    _redressed,
    _fewer,
    _elsewhere,
    arranged,
)


def _colours(scene: Scene) -> list[str]:
    r"""The colours of things and garments, in the order in which `_coloured` gives them back."""
    found = [thing.colour for thing in scene.things]
    found += [garment.colour for animal in scene.animals for garment in animal.wears]
    return [colour for colour in found if colour]


def _coloured(scene: Scene, colours: list[str]) -> Scene:
    rest = iter(colours)
    things = tuple(replace(thing, colour=next(rest)) if thing.colour else thing for thing in scene.things)
    animals = tuple(
        replace(a, wears=tuple(replace(g, colour=next(rest)) if g.colour else g for g in a.wears))
        for a in scene.animals
    )
    return replace(scene, things=things, animals=animals)
