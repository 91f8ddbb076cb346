r"""Adherence: the prompts, generating many at once, and the counting."""

import re

import numpy as np
import pytest
from PIL import Image

from ldm.lab.evaluate.adherence import (
    CAPTIONS,
    HANDWRITTEN,
    SETS,
    FactPrompt,
    JudgedImage,
    composition_scores,
    draw_target,
    error_caption,
    flawless_scores,
    fraction_correct,
    generate_images,
    judge_images,
    missing_facts,
    set_of_prompts,
    shuffled_baseline,
    topic_scores,
    wears_two,
)
from ldm.lab.evaluate.judge import Judge
from ldm.loading import load
from ldm.pipeline import LatentDiffusion
from ldm.postcards import Animal, Garment, Scene, Thing, facts, handwritten, held_out, labels
from ldm.postcards.captions import is_withheld
from tests.small import write_small_model

HAT = (Garment("hat", "green"),)
CAT, DOG = (Scene(wall="red", animals=(Animal(kind, "grey", HAT, "portrait", 1),)) for kind in ("cat", "dog"))
LAKE = Scene("lake", "hills", "night", "clear", "left", things=(Thing("boat", "red", 0),))
A_CAT = FactPrompt("a cat", frozenset({"1 cat", "cat green hat"}))
A_DOG = FactPrompt("a dog", frozenset({"1 dog"}))
BLANK = Image.new("RGB", (16, 16))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_small_model(tmp_path_factory.mktemp("adherence") / "small"), device="cpu")


def judged(*pairs) -> list[JudgedImage]:
    r"""Images given as (prompt, the scene that the judge sees)."""
    return [JudgedImage(prompt, i, BLANK, labels(scene)) for i, (prompt, scene) in enumerate(pairs)]


@pytest.mark.parametrize("name", SETS)
def test_the_prompts_of_a_set_are_always_the_same_and_more_of_them_only_adds(name):
    assert set_of_prompts(name, 8) == set_of_prompts(name, 12)[:8]
    assert len({target.prompt for target in set_of_prompts(name, 12)}) > 10


def test_each_set_asks_for_what_its_name_says():
    sets = {name: set_of_prompts(name, 15) for name in CAPTIONS}
    for name, some in sets.items():
        assert all(held_out(t.scene) == (name == "held-out") for t in some)
        assert all(is_withheld(t.prompt, t.scene) == (name == "wordings") for t in some)
        assert all(t.facts <= facts(labels(t.scene)) for t in some)
    french = r"\b(un|une|la|le|les|des|du|au|sur|fond|chien|chat|ours|lapin|avec)\b|[éêè]"
    assert all(re.search(french, t.prompt.casefold()) for t in sets["french"])
    assert not any(re.search(r"\b(une|des|avec|sur)\b", t.prompt) for t in sets["seen"] + sets["held-out"])


@pytest.mark.parametrize("name", HANDWRITTEN)
def test_the_sets_written_by_hand_are_complete_and_have_no_scene(name):
    prompts = set_of_prompts(name, 10_000)
    assert [p.prompt for p in prompts] == [p.text for p in handwritten(name)]
    assert all(p.scene is None and p.facts for p in prompts)


def test_a_batch_of_prompts_is_generated_as_each_would_be_alone(model):
    prompts = ["red dog", "dog", "red"]
    images = list(generate_images(model, prompts, batch=2))
    for seed, (prompt, image) in enumerate(zip(prompts, images, strict=True)):
        alone = np.asarray(model.generate(prompt, seed=seed)[0], int)
        assert np.abs(np.asarray(image, int) - alone).max() <= 1  # sums of another order may round otherwise


def test_each_prompt_has_its_own_negative_prompt_and_all_options_reach_the_model(model, monkeypatch):
    calls = []
    monkeypatch.setattr(
        LatentDiffusion, "generate", lambda self, *a, **o: calls.append((*a, o)) or [BLANK] * len(a[0])
    )
    list(generate_images(model, ["a", "b", "c"], ["x", "", "y"], batch=2, guidance=1.0))
    assert calls == [
        (["a", "b"], ["x", ""], {"seed": 0, "guidance": 1.0}),
        (["c"], ["y"], {"seed": 2, "guidance": 1.0}),
    ]
    list(generate_images(model, ["a"]))
    assert calls[-1] == (["a"], "", {"seed": 0})  # what people call, with the defaults
    list(generate_images(model, ["a", "b", "c"], seeds=(7, 3, 5), batch=2))
    assert calls[-2:] == [(["a", "b"], "", {"seed": [7, 3]}), (["c"], "", {"seed": [5]})]


class Oracle(Judge):
    r"""In a judge's place: says what the red channel of the first pixel numbers, and counts its calls."""

    def __init__(self, told):
        super().__init__()
        self.told, self.sizes = told, []

    def predict(self, pixels):
        self.sizes.append(len(pixels))
        return [self.told[round((p[0, 0, 0].item() + 1) * 127.5)] for p in pixels]


def test_images_are_judged_in_order_while_they_stream_in():
    told = [labels(scene) for scene in (CAT, DOG, LAKE, CAT, DOG)]
    images = [Image.new("RGB", (16, 16), (i, 0, 0)) for i in range(5)]
    oracle = Oracle(told)
    found = list(judge_images(oracle, [A_CAT] * 5, iter(images), batch=2))
    assert [p.answers for p in found] == told and [p.seed for p in found] == [0, 1, 2, 3, 4]
    assert oracle.sizes == [2, 2, 1] and [p.image for p in found] == images
    assert [p.missing for p in found] == [[], ["1 cat", "cat green hat"], ["1 cat", "cat green hat"], [],
                                          ["1 cat", "cat green hat"]]  # fmt: skip


def test_an_image_is_correct_when_no_fact_is_missing():
    some = judged((A_CAT, CAT), (A_CAT, DOG), (A_DOG, DOG), (A_DOG, LAKE))
    assert fraction_correct(some) == 1 / 2
    assert topic_scores(some) == {"count": 1 / 2, "garment colour": 1 / 2}


def test_composition_counts_facts_about_counts_sides_and_colours_over_all_images():
    asked = FactPrompt(
        "two grey cats, one on the left, red", frozenset({"2 cat", "cat left", "grey cat", "red wall"})
    )
    some = judged((A_CAT, CAT), (A_CAT, DOG), (asked, CAT))
    # "1 cat" is right once in two, "2 cat" wrong. The green hat is the only colour of its prompt; the third has two.
    assert composition_scores(some) == {
        "one of a kind": 1 / 2,
        "two or three of a kind": 0.0,
        "left and right": 0.0,
        "colours, of several in a prompt": 1.0,
    }


def boats(*colours):
    return Scene(
        "sea",
        "none",
        "day",
        "clear",
        "left",
        things=tuple(Thing("boat", c, i) for i, c in enumerate(colours)),
    )


def test_of_several_things_of_one_colour_all_must_have_it():
    red = FactPrompt("two red boats", frozenset({"sea", "boat", "2 boat", "red boat"}))
    assert missing_facts(labels(boats("red", "red")), red) == []
    assert missing_facts(labels(boats("red", "blue")), red) == ["red boat"]
    assert missing_facts(labels(boats("red", "red", "blue")), red) == ["2 boat", "red boat"]
    both = FactPrompt("a red and a blue boat", red.facts | {"blue boat"})
    assert missing_facts(labels(boats("red", "blue")), both) == []
    assert missing_facts(labels(boats("red", "green")), both) == ["blue boat", "red boat"]
    one = FactPrompt("a red boat", frozenset({"boat", "red boat"}))  # which says nothing of others
    assert missing_facts(labels(boats("red", "blue")), one) == []


def cats(*worn, furs=("grey", "grey")):
    return Scene(
        wall="red",
        animals=tuple(Animal("cat", f, w, "sitting", 2 * i) for i, (f, w) in enumerate(zip(furs, worn))),
    )


def test_of_two_animals_that_wear_the_same_both_must_wear_it():
    red, blue = ((Garment("scarf", colour),) for colour in ("red", "blue"))
    said = frozenset({"cat", "2 cat", "grey cat", "cat scarf", "cat red scarf"})
    asked = FactPrompt("two grey cats with red scarves", said, cats(red, red))
    assert missing_facts(labels(cats(red, red)), asked) == []
    assert missing_facts(labels(cats(red, ())), asked) == ["cat red scarf", "cat scarf"]
    assert missing_facts(labels(cats(red, blue)), asked) == ["cat red scarf"]
    assert missing_facts(labels(cats(red, red, furs=("grey", "black"))), asked) == ["grey cat"]
    # If only one of them wears it in the scene, or the scene is not known, one is enough.
    for scene in (cats(red, ()), None):
        assert missing_facts(labels(cats((), red)), FactPrompt("two cats, a scarf", said, scene)) == []


@pytest.mark.parametrize("name", CAPTIONS)
def test_the_scene_of_a_prompt_shows_all_that_it_asks_for(name):
    assert all(missing_facts(labels(t.scene), t) == [] for t in set_of_prompts(name, 40))


def test_another_drawing_of_a_target_shows_what_its_prompt_says():
    scene = Scene(
        "lake", "none", "day", "clear", "left", things=(Thing("boat", "red", 0), Thing("house", "blue", 2))
    )
    target = FactPrompt("a red boat left of a blue house", frozenset({"boat left of house"}), scene)
    scenes = [draw_target(target, np.random.default_rng(i), 16)[0] for i in range(30)]
    assert all("boat left of house" in facts(labels(s)) and s.content == scene.content for s in scenes)
    assert {s.sun for s in scenes} == {"left", "right"} and len({s.things for s in scenes}) == 3
    drawn = draw_target(target, np.random.default_rng(0), 16)[1]
    assert drawn == draw_target(target, np.random.default_rng(0), 16)[1] and drawn.size == (16, 16)


def test_two_garments_are_right_if_both_are_there_in_their_colours():
    both = (Garment("hat", "green"), Garment("scarf", "red"))
    dressed = Scene(wall="red", animals=(Animal("cat", "grey", both, "portrait", 1),))
    other = Scene(
        wall="red", animals=(Animal("cat", "grey", (both[0], Garment("scarf", "blue")), "portrait", 1),)
    )
    asked = frozenset({"1 cat", "cat hat", "cat green hat", "cat scarf", "cat red scarf"})
    some = judged(*((FactPrompt("", asked), scene) for scene in (dressed, other, CAT)), (A_CAT, DOG))
    assert composition_scores(some)["two garments"] == pytest.approx(1 / 3)
    assert (
        wears_two(asked, "cat") and not wears_two(asked - {"cat hat"}, "cat") and not wears_two(asked, "dog")
    )
    assert not wears_two(asked - {"1 cat"} | {"2 cat"}, "cat")  # each may wear one of them


def test_flaws_are_counted_where_they_can_be():
    wall, lake = FactPrompt("", frozenset(), CAT), FactPrompt("", frozenset(), LAKE)
    answers = [labels(CAT), labels(CAT, "mottled wall"), labels(CAT, "odd eyes"), labels(LAKE)]
    some = [JudgedImage(t, 0, BLANK, told) for t, told in zip((wall, wall, wall, lake), answers, strict=True)]
    assert flawless_scores(some) == {
        "uniform walls": pytest.approx(2 / 3),
        "matching eyes": pytest.approx(2 / 3),
    }
    assert flawless_scores(some[3:]) == flawless_scores(judged((A_CAT, CAT))) == {}


def test_the_baseline_pairs_each_image_with_the_next_prompt():
    assert shuffled_baseline(judged((A_CAT, CAT), (A_DOG, DOG), (A_CAT, CAT))) == 1 / 3
    assert shuffled_baseline(judged((A_CAT, DOG), (A_DOG, CAT))) == 1


def test_an_error_is_captioned_with_prompt_seed_and_what_is_missing():
    [wrong] = judged((A_CAT, DOG))
    assert error_caption(wrong) == "a cat #0 [not: 1 cat, cat green hat]"
