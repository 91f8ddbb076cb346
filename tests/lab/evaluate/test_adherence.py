r"""Adherence: the prompts, generating many at once, and the counting."""

import re

import numpy as np
import pytest
from PIL import Image

from ldm.lab.evaluate.adherence import (
    SETS,
    JudgedImage,
    ScenePrompt,
    error_caption,
    error_rates,
    fraction_correct,
    generate_images,
    judge_images,
    scene_prompts,
    shuffled_baseline,
)
from ldm.lab.evaluate.judge import Judge, correct_answers
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


def judged(*pairs) -> list[JudgedImage]:
    r"""Images given as (the scene of the prompt, the scene that the judge sees, doubled)."""
    return [
        JudgedImage(ScenePrompt("p", a), i, BLANK, correct_answers(b, doubled))
        for i, (a, b, doubled) in enumerate(pairs)
    ]


@pytest.mark.parametrize("name", SETS)
def test_the_prompts_of_a_set_are_always_the_same_and_more_of_them_only_adds(name):
    assert scene_prompts(name, 8) == scene_prompts(name, 12)[:8]
    assert len({target.prompt for target in scene_prompts(name, 12)}) > 10


def test_each_set_asks_for_what_its_name_says():
    sets = {name: scene_prompts(name, 15) for name in SETS}
    for name, some in sets.items():
        assert all(held_out(t.scene) == (name == "held-out") for t in some)
        assert all(is_withheld(t.prompt, t.scene) == (name == "wordings") for t in some)
    french = r"\b(un|une|la|le|des|du|au|sur|fond|chien|chat|ours|lapin)\b|[éêè']"
    assert all(re.search(french, t.prompt) for t in sets["french"])
    assert not any(re.search(r"\b(une|des|avec|sur)\b", t.prompt) for t in sets["seen"] + sets["held-out"])


def test_a_batch_of_prompts_is_generated_as_each_would_be_alone(model):
    prompts = ["red dog", "dog", "red"]
    images = list(generate_images(model, prompts, batch=2))
    for seed, (prompt, image) in enumerate(zip(prompts, images, strict=True)):
        alone = np.asarray(model.generate(prompt, seed=seed)[0], int)
        assert np.abs(np.asarray(image, int) - alone).max() <= 1  # sums of another order may round otherwise


class Oracle(Judge):
    r"""In a judge's place: says what the red channel of the first pixel numbers, and counts its calls."""

    def __init__(self, told):
        super().__init__()
        self.told, self.sizes = told, []

    def predict(self, pixels):
        self.sizes.append(len(pixels))
        return [self.told[round((p[0, 0, 0].item() + 1) * 127.5)] for p in pixels]


def test_images_are_judged_in_order_while_they_stream_in():
    told = [correct_answers(scene) for scene in (CAT, DOG, LAKE, CAT, DOG)]
    images = [Image.new("RGB", (16, 16), (i, 0, 0)) for i in range(5)]
    oracle = Oracle(told)
    found = list(judge_images(oracle, [ScenePrompt("p", CAT)] * 5, iter(images), batch=2))
    assert [p.answers for p in found] == told and [p.seed for p in found] == [0, 1, 2, 3, 4]
    assert oracle.sizes == [2, 2, 1] and [p.image for p in found] == images
    assert [p.errors for p in found] == [{}, {"animal": "dog"}, {"kind": "landscape"}, {}, {"animal": "dog"}]


def test_an_image_is_correct_when_nothing_is_wrong_and_nothing_is_doubled():
    some = judged((CAT, CAT, False), (CAT, DOG, True), (CAT, CAT, True), (LAKE, CAT, False))
    assert fraction_correct(some) == 1 / 4
    assert error_rates(some) == {"count": 1 / 2, "animal": 1 / 4, "kind": 1 / 4}


def test_the_baseline_pairs_each_image_with_the_next_prompt():
    assert shuffled_baseline(judged((CAT, CAT, False), (DOG, DOG, False), (CAT, CAT, False))) == 1 / 3
    assert shuffled_baseline(judged((CAT, DOG, False), (DOG, CAT, False))) == 1


def test_an_error_is_captioned_with_prompt_seed_and_what_was_seen():
    [wrong] = judged((CAT, DOG, True))
    assert error_caption(wrong) == "p #0 [count: doubled, animal: dog]"
