r"""Guidance, negative prompts and sizes: the counting, with a judge that says what it is told."""

import pytest
from PIL import Image

from ldm.lab.evaluate.adherence import FactPrompt, JudgedImage
from ldm.lab.evaluate.controls import (
    BARE_PROMPTS,
    REMOVABLE,
    doubled,
    fraction_removed,
    fraction_single,
    unasked,
)
from ldm.postcards import Animal, Garment, Scene, Thing, labels

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


def test_the_fraction_of_images_in_which_nothing_is_doubled():
    one, two = with_things(BOAT), with_things(BOATS)
    images = [judged("a boat", one, 0, one), judged("a boat", two, 1, one), judged("two boats", two, 2, two)]
    assert fraction_single(images) == pytest.approx(2 / 3)
