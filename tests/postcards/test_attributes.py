r"""Scenes: what exists, what is held out, how they are sampled."""

from dataclasses import astuple
from itertools import combinations

import numpy as np
import pytest

from ldm.errors import LdmError
from ldm.postcards import SCENES, SUBJECTS, Landscape, Portrait, held_out, sample_scene
from ldm.postcards.attributes import HELD_OUT, LANDSCAPES, PLACES_WITH_WATER, PORTRAITS, subject

TRAIN = [scene for scene in SCENES if not held_out(scene)]


def named_pairs(scenes):
    r"""Every two (attribute, value) that some scene shows together."""
    return {pair for scene in scenes for pair in combinations(vars(scene).items(), 2)}


def test_there_are_264_landscapes_and_768_portraits_each_once():
    # 5 places x 3 reliefs x 4 times x 5 features, less the boats of 3 dry places; 4 x 6 x 4 x 8.
    assert len(LANDSCAPES) == 5 * 3 * 4 * 5 - 3 * 3 * 4
    assert len(PORTRAITS) == 4 * 6 * 4 * 8
    assert len(set(SCENES)) == len(SCENES) == 264 + 768


def test_a_boat_is_only_where_there_is_water():
    assert {s.place for s in LANDSCAPES if s.feature == "boat"} == set(PLACES_WITH_WATER)


def test_about_a_tenth_of_each_kind_is_held_out():
    for kind in (LANDSCAPES, PORTRAITS):
        assert 0.07 < sum(map(held_out, kind)) / len(kind) < 0.10


def test_every_value_and_every_pair_but_the_held_out_ones_is_trained_on():
    unseen = named_pairs(SCENES) - named_pairs(TRAIN)
    pairs = {frozenset(together) for together in HELD_OUT if len(together) == 2}
    assert {frozenset(value for _, value in pair) for pair in unseen} == pairs
    assert {v for s in TRAIN for v in vars(s).items()} == {v for s in SCENES for v in vars(s).items()}


def test_the_scenes_of_the_demo_prompts_are_trained_on():
    assert not held_out(Landscape("lake", "mountains", "sunrise", "nothing"))
    assert not any(
        held_out(s) for s in LANDSCAPES if (s.place, s.time, s.feature) == ("forest", "sunrise", "waterfall")
    )
    assert not any(held_out(s) for s in PORTRAITS if (s.animal, s.accessory) == ("dog", "glasses"))


def test_a_scene_is_held_out_by_hand():
    assert held_out(Landscape("desert", "none", "night", "house"))
    assert not held_out(Landscape("desert", "none", "day", "house"))
    assert held_out(Portrait("bear", "white", "hat", "pink"))
    assert not held_out(Portrait("bear", "white", "hat", "blue"))


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_sampling_stays_in_its_split_and_halves_the_kinds(split):
    rng = np.random.default_rng(0)
    drawn = [sample_scene(rng, split) for _ in range(4000)]
    assert all(held_out(scene) == (split == "held_out") for scene in drawn)
    assert abs(sum(isinstance(scene, Landscape) for scene in drawn) / 4000 - 0.5) < 0.03
    everything = {astuple(s) for s in SCENES if held_out(s) == (split == "held_out")}
    assert len({astuple(s) for s in drawn}) > 0.9 * len(everything)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_a_smaller_world_has_all_its_scenes_and_no_others(split):
    few = ("lake", "cat")
    rng = np.random.default_rng(0)
    drawn = [sample_scene(rng, split, few) for _ in range(4000)]
    wanted = [s for s in SCENES if held_out(s) == (split == "held_out") and subject(s) in few]
    assert set(drawn) == set(wanted)
    assert abs(sum(isinstance(scene, Landscape) for scene in drawn) / 4000 - 0.5) < 0.03


def test_a_world_of_one_kind_has_only_that_kind():
    rng = np.random.default_rng(0)
    assert {subject(sample_scene(rng, subjects=("sea",))) for _ in range(50)} == {"sea"}


def test_the_whole_world_is_the_default():
    for seed in range(200):
        whole, default = (np.random.default_rng(seed) for _ in range(2))
        assert sample_scene(whole, subjects=SUBJECTS[::-1]) == sample_scene(default)


@pytest.mark.parametrize(
    ("subjects", "said"),
    [
        (("lake", "dgo"), "subjects dgo: expected some of lake, forest, .+, bear"),
        ((), "no held_out scene shows nothing"),
        (("dog",), "no held_out scene shows dog"),  # no held-out set names one
    ],
)
def test_a_world_with_unknown_subjects_or_without_scenes_is_refused(subjects, said):
    with pytest.raises(LdmError, match=said):
        sample_scene(np.random.default_rng(0), "held_out", subjects)


def test_an_unknown_split_is_refused_by_name():
    with pytest.raises(LdmError, match="'test'.*'train', 'held_out'"):
        sample_scene(np.random.default_rng(0), "test")
