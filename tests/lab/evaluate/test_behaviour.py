r"""What the options change: the right options are asked for, and the figures compare what they say."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.lab.evaluate import behaviour, measurements
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

    def generate(model, prompts, negatives=None, seeds=None, **options):
        calls.append((list(prompts), negatives, options | ({} if seeds is None else {"seeds": list(seeds)})))
        size, shown = options.get("size", (16, 16)), answers.pop(0) if answers else [EMPTY] * len(prompts)
        return iter([Image.new("RGB", size, (TOLD.index(scene), 0, 0)) for scene in shown])

    monkeypatch.setattr(behaviour, "generate_images", generate)
    return calls, answers


def test_what_is_measured_is_not_what_settings_are_chosen_by(setup, monkeypatch):
    r"""`ldm evaluate` and whoever else calls `set_of_prompts` have no prompt of a grammar in common."""
    asked = []

    def stop(name, count, series):
        asked.extend(set_of_prompts(name, 40, series))
        raise InterruptedError

    for module in (measurements, behaviour):
        monkeypatch.setattr(module, "set_of_prompts", stop)
    for measure in (
        partial(measurements.generate_set, name="seen"),
        size_metrics,
        behaviour.diversity_metrics,
    ):
        with pytest.raises(InterruptedError):
            measure(setup)
    assert len(asked) == 120
    assert {t.prompt for t in asked}.isdisjoint(t.prompt for t in set_of_prompts("seen", 200))


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
    # The sixth prompt is a dog: its hat
    answers.append([BOAT, BOAT, EMPTY, BOAT, EMPTY, DOG, EMPTY, EMPTY, EMPTY])
    answers += [[EMPTY, BOAT, EMPTY, DOG], [BOAT, BOAT, EMPTY, DOG]]
    gone, by_chance = negative_metrics(setup)
    again, seeds = [BARE_PROMPTS[i] for i in (0, 1, 3, 5)], {"seeds": [0, 1, 3, 5]}
    assert calls[0] == (list(BARE_PROMPTS), None, {})
    assert calls[1] == (again, ["boat", "boat", "boat", "hat"], seeds)
    prompts, others, options = calls[2]
    assert (prompts, options) == (again, seeds) and not {"boat", "hat", "dog"} & {others[0], others[3]}
    assert (gone.value, gone.goal, by_chance.value, by_chance.goal) == (2 / 4, 0.85, 1 / 4, None)
    assert gone.chapter.startswith("negative prompts, 4 images") and (setup.out / "negative.png").is_file()


def test_where_nothing_is_unasked_nothing_can_be_removed(setup, generated):
    calls, answers = generated
    answers.append([EMPTY] * 9)
    gone, by_chance = negative_metrics(setup)
    assert gone.value == by_chance.value == 0 and "0 images" in gone.chapter
    assert not (setup.out / "negative.png").exists()


def test_sizes_are_parts_of_the_models_own_and_doubled_things_are_counted(setup, generated, monkeypatch):
    calls, answers = generated
    one, two = FactPrompt("a dog", frozenset({"1 dog"}), DOG), FactPrompt("a boat", frozenset({"boat"}), BOAT)
    empty = FactPrompt("a lake", frozenset(), EMPTY)  # in which nothing can be doubled
    monkeypatch.setattr(
        behaviour, "set_of_prompts", lambda name, count, series: [empty, one, two, one][:count]
    )
    twins = Scene(wall="red", animals=(*DOG.animals, Animal("dog", "black", (), "portrait", 2)))
    monkeypatch.setattr("tests.lab.evaluate.test_behaviour.TOLD", [*TOLD, twins])
    answers += [[twins, BOAT], [DOG, EMPTY]] + [[DOG, BOAT]] * (len(SHAPES) - 2)
    single, right = size_metrics(setup)
    assert [options["size"] for _, _, options in calls] == [(4 * w, 4 * h) for w, h in SHAPES]
    assert all(prompts == ["a dog", "a boat"] for prompts, _, _ in calls)
    images = 2 * len(SHAPES)
    assert single.value == pytest.approx(1 - 1 / images) and single.goal == 0.8
    assert right.value == pytest.approx(
        1 - 2 / images
    )  # a boat that is not there is not doubled, but missing
    assert (setup.out / "sizes.png").is_file()


def test_a_model_that_paints_drawings_is_as_varied_as_drawings_and_as_far_from_the_training_set(
    setup, monkeypatch
):
    r"""Its ratios are about 1, and its sun is on either side; one image for all seeds has a distance of 0."""
    target = next(
        t
        for t in set_of_prompts("seen", 9)
        if t.scene.sun_is_visible and "sun" not in " ".join(t.facts).split()
    )
    monkeypatch.setattr(behaviour, "set_of_prompts", lambda name, count, series: [target])
    few = Counts(variety=(1, 8), compared=6, training=5)
    setup = Setup(setup.model, setup.clip, setup.tokenizer, setup.judge, setup.out, few)
    scenes, drawn = [], []
    for i in range(8):
        scene, image = behaviour.draw_target(target, np.random.default_rng([50, i]), 16)
        scenes.append(scene)
        drawn.append(image)
    monkeypatch.setattr(
        Oracle, "predict", lambda self, pixels: [labels(scene) for scene in scenes[: len(pixels)]]
    )
    monkeypatch.setattr(behaviour, "generate_images", lambda model, prompts, **_: iter(drawn))
    _, pixels, sun, of_images, of_drawings = behaviour.diversity_metrics(setup)
    assert 0.7 < pixels.value < 1.4
    left = sum(scene.sun == "left" for scene in scenes)
    assert sun.value == of_images.value == min(left, 8 - left) / 8 > 0 and sun.goal == 0.4
    assert 0 < of_drawings.value <= 0.5
    monkeypatch.setattr(behaviour, "generate_images", lambda model, prompts, **_: iter(drawn[:1] * 8))
    assert behaviour.diversity_metrics(setup)[1].value == 0

    judged = [JudgedImage(target, i, image, labels(target.scene)) for i, image in enumerate(drawn)]
    [fresh] = behaviour.memorisation_metrics(setup, judged)
    assert 0.6 < fresh.value < 1.6
    copied = [behaviour.postcard(i, behaviour.TRAINING_SERIES, 16).image for i in range(5)]
    copies = [JudgedImage(target, i, image, labels(target.scene)) for i, image in enumerate(copied)]
    assert behaviour.memorisation_metrics(setup, copies)[0].value == 0
    assert (setup.out / "nearest.png").is_file()


def test_a_sun_that_each_prompt_has_on_one_side_is_found_prompt_by_prompt(setup, monkeypatch):
    open_sides = [
        t
        for t in set_of_prompts("seen", 30)
        if t.scene.sun_is_visible and "sun" not in " ".join(t.facts).split()
    ][:2]
    monkeypatch.setattr(behaviour, "set_of_prompts", lambda name, count, series: open_sides)
    setup = Setup(setup.model, setup.clip, setup.tokenizer, setup.judge, setup.out, Counts(variety=(2, 4)))
    sides = iter(["left"] * 4 + ["right"] * 4)
    monkeypatch.setattr(Oracle, "predict", lambda self, pixels: [{"sun": next(sides)} for _ in pixels])
    blank = [Image.new("RGB", (16, 16), (i, 0, 0)) for i in range(4)]
    monkeypatch.setattr(behaviour, "generate_images", lambda model, prompts, **_: iter(blank))
    _, _, together, each, of_drawings = behaviour.diversity_metrics(setup)
    assert together.value == 0.5 and each.value == 0 < of_drawings.value


def test_the_attention_that_is_measured_is_that_of_the_chosen_heads(setup, monkeypatch):
    from dataclasses import replace

    from ldm.config import Head
    from ldm.lab.evaluate.attention_maps import Masses

    good, bad = Head("up", 0), Head("up", 1)
    masses = Masses([good, bad], torch.tensor([[4.0, 0.0]]), torch.tensor([[5.0, 5.0]]), torch.tensor([0.2]))
    monkeypatch.setattr(behaviour.attention_maps, "examples", lambda *_: iter(()))
    monkeypatch.setattr(behaviour.attention_maps, "measure", lambda *_: masses)
    assert [round(m.value, 6) for m in behaviour.attention_metrics(setup)] == [0.4, 0.2, 2.0, 2.0, 2.0]
    setup.model.config = replace(setup.model.config, map_heads=(good,))
    share, chance, ratio, everything, others = behaviour.attention_metrics(setup)
    assert (share.value, ratio.value, ratio.goal) == (pytest.approx(0.8), pytest.approx(4.0), 3.0)
    assert (chance.value, everything.value) == (pytest.approx(0.2), pytest.approx(2.0))
    assert (others.value, others.goal) == (pytest.approx(4.0), None)
