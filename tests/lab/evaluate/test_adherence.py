r"""Adherence: the prompts, painting many at once, and the counting."""

import re

import numpy as np
import pytest
from PIL import Image

from ldm.lab.evaluate.adherence import (
    SETS,
    Ask,
    Painted,
    asks,
    fault_caption,
    judged,
    paint,
    share_by_question,
    share_right,
    shuffled,
)
from ldm.lab.evaluate.judge import Judge, answers
from ldm.loading import load
from ldm.postcards import Landscape, Portrait, held_out
from ldm.postcards.captions import is_withheld
from tests.small import write_small_model

CAT, DOG = Portrait("cat", "grey", "hat", "red"), Portrait("dog", "grey", "hat", "red")
LAKE = Landscape("lake", "hills", "night", "boat")
BLANK = Image.new("RGB", (16, 16))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_small_model(tmp_path_factory.mktemp("adherence") / "small"), device="cpu")


def painted(*pairs) -> list[Painted]:
    r"""Pictures of what was asked and what the judge sees, given as (scene asked for, scene seen, doubled)."""
    return [Painted(Ask("p", a), i, BLANK, answers(b, doubled)) for i, (a, b, doubled) in enumerate(pairs)]


@pytest.mark.parametrize("name", SETS)
def test_the_prompts_of_a_set_are_always_the_same_and_more_of_them_only_adds(name):
    assert asks(name, 8) == asks(name, 12)[:8]
    assert len({ask.prompt for ask in asks(name, 12)}) > 10


def test_each_set_asks_for_what_its_name_says():
    sets = {name: asks(name, 15) for name in SETS}
    for name, some in sets.items():
        assert all(held_out(ask.scene) == (name == "held-out") for ask in some)
        assert all(is_withheld(ask.prompt, ask.scene) == (name == "wordings") for ask in some)
    french = r"\b(un|une|la|le|des|du|au|sur|fond|chien|chat|ours|lapin)\b|[éêè']"
    assert all(re.search(french, ask.prompt) for ask in sets["french"])
    assert not any(
        re.search(r"\b(une|des|avec|sur)\b", ask.prompt) for ask in sets["seen"] + sets["held-out"]
    )


def test_a_batch_of_prompts_is_painted_as_each_would_be_alone(model):
    prompts = ["red dog", "dog", "red"]
    images = list(paint(model, prompts, [5, 0, 7], batch=2))
    for prompt, seed, image in zip(prompts, [5, 0, 7], images, strict=True):
        alone = np.asarray(model.generate(prompt, seed=seed)[0], int)
        assert np.abs(np.asarray(image, int) - alone).max() <= 1  # sums of another order may round otherwise


class Oracle(Judge):
    r"""In a judge's place: says what the red channel of the first pixel numbers, and counts its calls."""

    def __init__(self, told):
        super().__init__()
        self.told, self.sizes = told, []

    def examine(self, pixels):
        self.sizes.append(len(pixels))
        return [self.told[round((p[0, 0, 0].item() + 1) * 127.5)] for p in pixels]


def test_pictures_are_judged_in_order_while_they_stream_in():
    told = [answers(scene) for scene in (CAT, DOG, LAKE, CAT, DOG)]
    images = [Image.new("RGB", (16, 16), (i, 0, 0)) for i in range(5)]
    oracle = Oracle(told)
    found = list(judged(oracle, [Ask("p", CAT)] * 5, iter(images), batch=2))
    assert [p.seen for p in found] == told and [p.seed for p in found] == [0, 1, 2, 3, 4]
    assert oracle.sizes == [2, 2, 1] and [p.image for p in found] == images
    assert [p.faults for p in found] == [{}, {"animal": "dog"}, {"kind": "landscape"}, {}, {"animal": "dog"}]


def test_a_picture_is_right_when_nothing_is_wrong_and_nothing_is_doubled():
    some = painted((CAT, CAT, False), (CAT, DOG, True), (CAT, CAT, True), (LAKE, CAT, False))
    assert share_right(some) == 1 / 4
    assert share_by_question(some) == {"count": 1 / 2, "animal": 1 / 4, "kind": 1 / 4}


def test_the_floor_pairs_each_picture_with_the_next_prompt():
    assert shuffled(painted((CAT, CAT, False), (DOG, DOG, False), (CAT, CAT, False))) == 1 / 3
    assert shuffled(painted((CAT, DOG, False), (DOG, CAT, False))) == 1


def test_a_fault_is_captioned_with_prompt_seed_and_what_was_seen():
    [wrong] = painted((CAT, DOG, True))
    assert fault_caption(wrong) == "p #0 [count: doubled, animal: dog]"
