r"""Guidance, negative prompts and sizes: the counting, with a judge that says what it is told."""

import pytest
from PIL import Image

from ldm.lab.evaluate.adherence import FactPrompt, JudgedImage
from ldm.lab.evaluate.controls import (
    BARE_PROMPTS,
    REMOVABLE,
    can_be_doubled,
    doubled,
    fraction_removed,
    fraction_single,
    unasked,
    unrelated,
)
from ldm.postcards import QUESTIONS, Animal, Garment, Scene, Thing, labels

BLANK = Image.new("RGB", (16, 16))
LAKE = Scene("lake", "hills", "day", "rain", "left")
BOAT, BOATS = (Thing("boat", "red", 0),), (Thing("boat", "red", 0), Thing("boat", "blue", 2))
DOG = Animal("dog", "brown", (Garment("hat", "red"),), "sitting", 1)


def judged(prompt, scene, seed=0, wanted=None):
    return JudgedImage(FactPrompt(prompt, frozenset(), wanted), seed, BLANK, labels(scene))


def with_things(things, *animals):
    return Scene("lake", "hills", "day", "clear", "left", things=things, animals=animals)


def test_bare_prompts_ask_for_nothing_that_could_be_removed_but_their_subjects():
    assert not any(word in REMOVABLE for prompt in BARE_PROMPTS[:5] for word in prompt.split())


def test_what_is_unasked_is_in_the_image_and_not_in_the_prompt():
    scene = with_things(BOAT, DOG)
    assert {unasked(judged("a lake", scene, seed)) for seed in range(9)} == {"boat", "dog", "hat"}
    assert {unasked(judged("a dog", scene, seed)) for seed in range(9)} == {"boat", "hat"}
    assert unasked(judged("a lake", LAKE)) == "rain"
    assert unasked(judged("a lake", with_things(()))) == ""
    asked = JudgedImage(
        FactPrompt("the water with a ship", frozenset({"boat", "1 boat"})),
        0,
        BLANK,
        labels(with_things(BOAT)),
    )
    assert unasked(asked) == ""  # by another word


def test_what_is_unrelated_is_neither_in_the_image_nor_in_the_prompt():
    found = {unrelated(judged("a dog", with_things(BOAT, DOG), seed)) for seed in range(50)}
    assert found == set(REMOVABLE) - {"boat", "dog", "hat"}
    assert "dog" not in {unrelated(judged("a dog", with_things(()), seed)) for seed in range(50)}


def test_an_image_has_removed_what_it_no_longer_shows():
    images = [
        judged("a lake", with_things(())),
        judged("a lake", with_things(BOAT)),
        judged("a dog", with_things((), DOG)),
    ]
    assert fraction_removed(images, ["boat", "boat", "boat"]) == pytest.approx(2 / 3)
    assert fraction_removed(images, ["boat", "boat", "hat"]) == pytest.approx(1 / 3)
    assert fraction_removed([], []) == 0.0


def test_doubled_is_more_than_there_should_be_of_what_should_be_there():
    assert doubled(labels(with_things(BOATS)), with_things(BOAT)) == ["boat"]
    assert doubled(labels(with_things(BOAT)), with_things(BOATS)) == []  # too few is another fault
    assert (
        doubled(labels(with_things(BOATS, DOG)), with_things((), DOG)) == []
    )  # nor is anything doubled here
    two = Scene(wall="red", animals=(DOG, Animal("dog", "black", (), "sitting", 2)))
    assert doubled(labels(two), Scene(wall="red", animals=(DOG,))) == ["dog"]


def test_only_what_the_judge_can_count_further_can_be_doubled():
    two, three = BOATS, (*BOATS, Thing("boat", "red", 1))
    pair = (DOG, Animal("cat", "black", (), "sitting", 2))
    falls = (Thing("waterfall", "", 0),)
    for things, animals, expected in ((BOAT, (), True), (two, (), True), (three, (), False), ((), (DOG,), True),
                                      ((), pair, False), ((), (), False), (falls, (), False)):  # fmt: skip
        assert can_be_doubled(with_things(things, *animals)) == expected, (things, animals)
    assert can_be_doubled(Scene(wall="red", animals=(DOG,)))
    # So three boats and two animals are the most that it can ever see.
    assert QUESTIONS["boat"][-1] == "3" and QUESTIONS["animals"][-1] == "2"


def test_the_fraction_of_images_in_which_nothing_is_doubled():
    one, two = with_things(BOAT), with_things(BOATS)
    images = [judged("a boat", one, 0, one), judged("a boat", two, 1, one), judged("two boats", two, 2, two)]
    assert fraction_single(images) == pytest.approx(2 / 3)
