r"""What the options change: the right options are asked for, and the figures compare what they say."""

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.lab.evaluate import behaviour
from ldm.lab.evaluate.adherence import FactPrompt, JudgedImage, set_of_prompts
from ldm.lab.evaluate.behaviour import guidance_metrics, negative_metrics, size_metrics
from ldm.lab.evaluate.controls import BARE_PROMPTS, SHAPES
from ldm.lab.evaluate.judge import Judge
from ldm.lab.evaluate.setup import Counts, Setup
from ldm.loading import load, load_clip
from ldm.postcards import Animal, Garment, Scene, Thing, labels
from tests.small import write_small_model

HAT = (Garment("hat", "green"),)
CAT, DOG = (Scene(wall="red", animals=(Animal(kind, "grey", HAT, "portrait", 1),)) for kind in ("cat", "dog"))
EMPTY = Scene("lake", "hills", "day", "clear", "left")
BOAT = Scene("lake", "hills", "day", "clear", "left", things=(Thing("boat", "red", 0),))
TOLD = [CAT, DOG, EMPTY, BOAT]  # an image whose red is k shows the scene k


class Oracle(Judge):
    def predict(self, pixels):
        return [labels(TOLD[round((p[0, 0, 0].item() + 1) * 127.5)]) for p in pixels]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_small_model(tmp_path_factory.mktemp("behaviour") / "small")


@pytest.fixture
def setup(model, tmp_path):
    counts = Counts(guidance=4, negative=9, sizes=2)
    return Setup(load(model, device="cpu"), *load_clip(model), Oracle(), tmp_path, counts)


@pytest.fixture
def generated(monkeypatch):
    r"""Calls of `generate_images` give the images that the test lists, in order, and are kept with their options."""
    calls, answers = [], []

    def generate(model, prompts, negatives=None, **options):
        calls.append((list(prompts), negatives, options))
        size, shown = options.get("size", (16, 16)), answers.pop(0) if answers else [EMPTY] * len(prompts)
        return iter([Image.new("RGB", size, (TOLD.index(scene), 0, 0)) for scene in shown])

    monkeypatch.setattr(behaviour, "generate_images", generate)
    return calls, answers


def test_guidance_is_compared_with_guidance_1_on_the_same_prompts(setup, generated):
    calls, answers = generated
    cat = FactPrompt("a cat", frozenset({"1 cat"}))
    judged = [
        JudgedImage(cat, i, Image.new("RGB", (16, 16)), labels(s))
        for i, s in enumerate([CAT, CAT, CAT, DOG, DOG])
    ]
    answers.append([CAT, DOG, DOG, DOG])
    usual, without, lost = guidance_metrics(setup, judged)
    assert calls[0] == (["a cat"] * 4, None, {"guidance": 1.0})
    assert (usual.value, without.value, lost.value, lost.goal) == (0.75, 0.25, 0.5, 0.15)
    assert [options["guidance"] for _, _, options in calls[1:]] == list(behaviour.GUIDANCES)
    assert (setup.out / "guidance.png").is_file()


def test_a_negative_prompt_names_what_the_bare_prompt_showed_and_counts_when_it_is_gone(setup, generated):
    calls, answers = generated
    answers.append(
        [BOAT, BOAT, BOAT, EMPTY, EMPTY, DOG, EMPTY, EMPTY, EMPTY]
    )  # the sixth prompt is a dog: its hat
    answers.append([EMPTY, BOAT, EMPTY, EMPTY, EMPTY, DOG, EMPTY, EMPTY, EMPTY])
    [gone] = negative_metrics(setup)
    assert calls[0] == (list(BARE_PROMPTS), None, {})
    assert calls[1] == (list(BARE_PROMPTS), ["boat", "boat", "boat", "", "", "hat", "", "", ""], {})
    assert gone.value == 2 / 4 and gone.chapter.startswith("negative prompts, 4 images")
    assert (setup.out / "negative.png").is_file()


def test_sizes_are_parts_of_the_models_own_and_doubled_things_are_counted(setup, generated, monkeypatch):
    calls, answers = generated
    one, two = FactPrompt("a dog", frozenset(), DOG), FactPrompt("a boat", frozenset(), BOAT)
    monkeypatch.setattr(behaviour, "set_of_prompts", lambda name, count: [one, two][:count])
    twins = Scene(wall="red", animals=(*DOG.animals, Animal("dog", "black", (), "portrait", 2)))
    monkeypatch.setattr("tests.lab.evaluate.test_behaviour.TOLD", [*TOLD, twins])
    answers += [[twins, BOAT]] + [[DOG, BOAT]] * (len(SHAPES) - 1)
    [single] = size_metrics(setup)
    assert [options["size"] for _, _, options in calls] == [(4 * w, 4 * h) for w, h in SHAPES]
    assert single.value == pytest.approx(1 - 1 / (2 * len(SHAPES))) and single.goal == 0.8
    assert (setup.out / "sizes.png").is_file()


def test_a_model_that_paints_drawings_is_as_varied_as_drawings_and_as_far_from_the_training_set(
    setup, monkeypatch
):
    r"""Its ratios are about 1, and its sun is on either side; one image for all seeds has a distance of 0."""
    [target] = [
        t
        for t in set_of_prompts("seen", 9)
        if t.scene.sun_is_visible and not {"sun left", "sun right"} & t.facts
    ][:1]
    monkeypatch.setattr(behaviour, "set_of_prompts", lambda name, count: [target])
    few = Counts(variety=(1, 8), compared=6, training=5)
    setup = Setup(setup.model, setup.clip, setup.tokenizer, setup.judge, setup.out, few)
    scenes, drawn = [], []
    for i in range(8):
        rng = np.random.default_rng([50, i])
        scenes.append(behaviour.arranged(target.scene, rng))
        drawn.append(behaviour.draw(scenes[i], rng, 16))
    monkeypatch.setattr(
        Oracle, "predict", lambda self, pixels: [labels(scene) for scene in scenes[: len(pixels)]]
    )
    monkeypatch.setattr(behaviour, "generate_images", lambda model, prompts, **_: iter(drawn))
    _, pixels, sun = behaviour.diversity_metrics(setup)
    assert 0.7 < pixels.value < 1.4
    left = sum(scene.sun == "left" for scene in scenes)
    assert sun.value == min(left, 8 - left) / 8 > 0 and sun.goal == 0.4
    monkeypatch.setattr(behaviour, "generate_images", lambda model, prompts, **_: iter(drawn[:1] * 8))
    assert behaviour.diversity_metrics(setup)[1].value == 0

    judged = [JudgedImage(target, i, image, labels(target.scene)) for i, image in enumerate(drawn)]
    [fresh] = behaviour.memorisation_metrics(setup, judged)
    assert 0.6 < fresh.value < 1.6
    copied = [behaviour.postcard(i, behaviour.TRAINING_SERIES, 16).image for i in range(5)]
    copies = [JudgedImage(target, i, image, labels(target.scene)) for i, image in enumerate(copied)]
    assert behaviour.memorisation_metrics(setup, copies)[0].value < 0.7 * fresh.value
    assert (setup.out / "nearest.png").is_file()


def test_the_attention_that_is_measured_is_that_of_the_chosen_heads(setup, monkeypatch):
    from dataclasses import replace

    from ldm.config import Head
    from ldm.lab.evaluate.attention import Masses

    good, bad = Head("up", 0), Head("up", 1)
    masses = Masses([good, bad], torch.tensor([[4.0, 0.0]]), torch.tensor([[5.0, 5.0]]), torch.tensor([0.2]))
    monkeypatch.setattr(behaviour.attention, "examples", lambda *_: iter(()))
    monkeypatch.setattr(behaviour.attention, "measure", lambda *_: masses)
    assert [round(m.value, 6) for m in behaviour.attention_metrics(setup)] == [0.4, 0.2, 2.0, 2.0]
    setup.model.config = replace(setup.model.config, map_heads=(good,))
    share, chance, ratio, everything = behaviour.attention_metrics(setup)
    assert (share.value, ratio.value, ratio.goal) == (pytest.approx(0.8), pytest.approx(4.0), 3.0)
    assert (chance.value, everything.value) == (pytest.approx(0.2), pytest.approx(2.0))
