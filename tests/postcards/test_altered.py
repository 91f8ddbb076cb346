r"""Hard negatives: one thing is different, never a held-out combination, and the caption is false of the original."""

from collections import Counter
from dataclasses import replace
from importlib import import_module

import numpy as np

from ldm.postcards import (
    Animal,
    Garment,
    Scene,
    Thing,
    altered,
    draw,
    facts,
    held_out,
    labels,
    sample_scene,
    wrong_caption,
)
from ldm.postcards.scene import PLACES_WITH_WATER

SCENES = [sample_scene(np.random.default_rng([8, i])) for i in range(400)]
CHANGED = [altered(scene, np.random.default_rng([9, i])) for i, scene in enumerate(SCENES)]
PAIRS = list(zip(SCENES, CHANGED, strict=True))


def counted(scene: Scene) -> Counter:
    r"""What the scene is made of, without its arrangement."""
    return Counter(
        [scene.place, scene.relief, scene.time, scene.weather, scene.wall, scene.style]
        + [f"{thing.colour} {thing.kind}" for thing in scene.things]
        + [
            part
            for a in scene.animals
            for part in (a.kind, a.fur, *(f"{g.colour} {g.kind}" for g in a.wears))
        ]
    )


def test_other_facts_are_true_of_an_altered_scene_and_it_is_never_held_out():
    for scene, other in PAIRS:
        assert facts(labels(other)) != facts(labels(scene))
        assert not held_out(other)


def test_a_scene_with_two_held_out_combinations_has_alterations_too():
    r"""Of a cat in a desert in the snow, no single change makes a scene that is trained on."""
    scene = Scene(
        "desert", "hills", "day", "snow", "left", animals=(Animal("cat", "grey", (), "sitting", 1),)
    )
    found = [altered(scene, np.random.default_rng(i)) for i in range(20)]
    assert all(held_out(other) and facts(labels(other)) != facts(labels(scene)) for other in found)
    assert wrong_caption(scene, np.random.default_rng(0))


def test_an_altered_scene_can_be_drawn():
    for _, other in PAIRS:
        assert bool(other.place) != bool(other.wall) and (other.place or other.animals)
        ground = [t.slot for t in other.things if t.kind != "balloon"] + [a.slot for a in other.animals]
        assert len(set(ground)) == len(ground)
        assert other.place in PLACES_WITH_WATER or all(thing.kind != "boat" for thing in other.things)
    drawn = {draw(other, np.random.default_rng(0), 16).size for other in CHANGED[:20]}
    assert drawn == {(16, 16)}


def test_only_little_is_different():
    r"""The place stays, and nothing is added: at most a thing goes, or two things have another colour."""
    for scene, other in PAIRS:
        assert other.place == scene.place
        assert len(other.things) <= len(scene.things) and len(other.animals) <= len(scene.animals)
        before, after = counted(scene), counted(other)
        assert (after - before).total() <= 2  # two colours exchanged, or two coats
        gone = len(scene.animals) - len(other.animals)
        assert gone or (before - after).total() <= 2
        assert gone <= 1  # an animal takes along its coat and what it wears


def test_every_kind_of_change_happens():
    seen = Counter()
    for scene, other in PAIRS:
        seen["fewer"] += len(other.things) + len(other.animals) < len(scene.things) + len(scene.animals)
        seen["arranged"] += other.content == scene.content
        seen["view"] += (other.relief, other.time, other.weather, other.wall, other.style) != (
            scene.relief, scene.time, scene.weather, scene.wall, scene.style)  # fmt: skip
        seen["things"] += len(other.things) == len(scene.things) and counted(replace(other, animals=())) != (
            counted(replace(scene, animals=()))
        )
        seen["animals"] += len(other.animals) == len(scene.animals) and [
            (a.fur, a.wears) for a in sorted(other.animals, key=lambda a: a.slot)
        ] != [(a.fur, a.wears) for a in sorted(scene.animals, key=lambda a: a.slot)]
        seen["another animal"] += Counter(a.kind for a in other.animals) != Counter(
            a.kind for a in scene.animals
        ) and len(other.animals) == len(scene.animals)
        seen["another thing"] += Counter(t.kind for t in other.things) != Counter(
            t.kind for t in scene.things
        ) and len(other.things) == len(scene.things)
    assert all(
        seen[kind] > 10
        for kind in ("fewer", "arranged", "view", "things", "animals", "another animal", "another thing")
    ), seen


BOUND = Scene(
    "lake", "hills", "day", "clear", "left",
    things=(Thing("boat", "red", 0), Thing("house", "blue", 2)),
    animals=(Animal("dog", "brown", (Garment("hat", "green"),), "sitting", 1),),
)  # fmt: skip


def test_colours_are_exchanged_between_the_things_they_belong_to():
    rng = np.random.default_rng(3)
    changed = [altered(BOUND, rng) for _ in range(300)]
    colours = Counter(tuple(t.colour for t in o.things) + (o.animals[0].wears[0].colour,)
                      for o in changed if len(o.things) == 2 and o.animals and o.animals[0].wears)  # fmt: skip
    for exchanged in (("blue", "red", "green"), ("green", "blue", "red"), ("red", "green", "blue")):
        assert colours[exchanged] > 3, exchanged


def test_a_wrong_caption_claims_something_that_is_false_of_the_scene(monkeypatch):
    module = import_module("ldm.postcards.altered")  # the package has a function of that name
    written = {}

    def remembered(scene, rng, **options):
        found = caption_with_facts(scene, rng, **options)
        written[found.text] = found.facts
        return found

    caption_with_facts = module.caption_with_facts
    monkeypatch.setattr(module, "caption_with_facts", remembered)
    for i, scene in enumerate(SCENES[:150]):
        text = wrong_caption(scene, np.random.default_rng([1, i]))
        assert not written[text] <= facts(labels(scene)), text


def test_wrong_captions_are_a_function_of_the_generator():
    one, again, other = (wrong_caption(BOUND, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == again != other
