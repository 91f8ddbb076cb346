r"""Scenes: what can be, what is held out, how they are sampled and arranged."""

from functools import cache

import numpy as np
import pytest

from ldm.errors import LdmError
from ldm.postcards import (
    SUBJECTS,
    Animal,
    Garment,
    Scene,
    Thing,
    arranged,
    facts,
    held_out,
    labels,
    sample_scene,
)
from ldm.postcards.sampling import HELD_OUT
from ldm.postcards.scene import PLACES_WITH_WATER


@cache
def many(count, split="train", seed=0, **how):
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, split, **how) for _ in range(count)]


def test_every_scene_can_be():
    for scene in (*many(3000), *many(500, "held_out")):
        assert bool(scene.place) != bool(scene.wall)
        assert scene.animals or scene.place
        assert all(
            kind != "boat" or scene.place in PLACES_WITH_WATER for kind in (t.kind for t in scene.things)
        )
        ground = [t.slot for t in scene.things if t.kind != "balloon"] + [a.slot for a in scene.animals]
        sky = [t.slot for t in scene.things if t.kind == "balloon"]
        assert len(set(ground)) == len(ground) and len(set(sky)) == len(sky)
        assert len(scene.things) + len(scene.animals) <= 3
        assert scene.weather != "rainbow" or scene.time != "night"
        for animal in scene.animals:
            assert all(garment.colour != animal.fur for garment in animal.wears)


def test_between_a_twentieth_and_a_fifth_of_the_world_is_held_out(monkeypatch):
    monkeypatch.setattr("ldm.postcards.sampling.HELD_OUT", ({"never"},))
    everything = many(3000, seed=5)
    monkeypatch.undo()
    assert 0.05 < np.mean([held_out(scene) for scene in everything]) < 0.20


def test_every_fact_of_a_held_out_set_is_trained_on_but_never_the_whole_set():
    trained = [facts(labels(scene)) for scene in many(8000)]
    for together in HELD_OUT:
        assert not any(together <= true for true in trained), together
        for fact in together:
            assert any(fact in true for true in trained), fact


def test_every_held_out_set_occurs_in_the_held_out_split():
    seen = [facts(labels(scene)) for scene in many(2500, "held_out")]
    assert all(any(together <= true for true in seen) for together in HELD_OUT)


def test_a_scene_is_held_out_by_hand():
    desert = Scene("desert", "none", "night", "clear", "left", things=(Thing("house", "red", 0),))
    assert held_out(desert)
    assert not held_out(Scene("desert", "none", "day", "clear", "left", things=desert.things))
    bear = Animal("bear", "white", (Garment("hat", "red"),), "portrait", 1)
    assert held_out(Scene(wall="pink", animals=(bear,))) and not held_out(Scene(wall="blue", animals=(bear,)))


def test_the_scenes_of_the_demo_prompts_are_trained_on():
    trained = [facts(labels(scene)) for scene in many(4000)]
    for asked in (
        {"lake", "mountains", "sunrise"},
        {"forest", "waterfall", "sunrise"},
        {"dog", "dog glasses"},
    ):
        assert sum(asked <= true for true in trained) > 5


def test_counts_one_to_three_and_two_colours_of_a_kind_are_common():
    seen = [labels(scene) for scene in many(4000)]
    for kind in ("boat", "house", "balloon", "flower"):
        counts = [told.get(kind, "0") for told in seen]
        assert counts.count("1") > counts.count("2") > counts.count("3") > 20
        assert sum(told.get(f"second {kind} colour", told.get(f"{kind} colour")) != told.get(f"{kind} colour")
                   for told in seen) > 15  # fmt: skip


def test_arranging_changes_only_places_poses_and_the_sun():
    rng = np.random.default_rng(2)
    for scene in many(300):
        assert arranged(scene, rng).content == scene.content
    assert scene.content != many(1, seed=1)[0].content
    assert len({arranged(scene, rng) for _ in range(50)}) > 1


def test_a_smaller_world_has_only_its_subjects():
    for scene in many(500, subjects=("lake", "cat")):
        assert not scene.things and scene.weather in ("clear", "") and scene.style == "plain"
        assert scene.place in ("lake", "") and {a.kind for a in scene.animals} <= {"cat"}
    assert {scene.place for scene in many(50, subjects=("sea",))} == {"sea"}
    rainy = many(300, subjects=("sea", "rain", "boat", "print", "plain"))
    assert {scene.weather for scene in rainy} == {"rain"} and {t.kind for s in rainy for t in s.things} == {
        "boat"
    }
    assert {scene.style for scene in many(300, subjects=("sea", "print"))} == {"print"}
    assert all(scene.wall for scene in many(50, subjects=("dog",)))


def test_the_order_of_the_subjects_does_not_matter():
    for seed in range(100):
        assert many(1, seed=seed, subjects=SUBJECTS[::-1]) == many(1, seed=seed)


@pytest.mark.parametrize(
    ("subjects", "split", "said"),
    [
        (("lake", "dgo"), "train", "subjects dgo: expected some of lake, forest, .+, print"),
        (("boat",), "train", "no subjects: expected some of lake, .+, bear"),
        (SUBJECTS, "test", "'test'.*'train', 'held_out'"),
    ],
)
def test_unknown_subjects_and_splits_are_refused(subjects, split, said):
    with pytest.raises(LdmError, match=said):
        sample_scene(np.random.default_rng(0), split, subjects)
