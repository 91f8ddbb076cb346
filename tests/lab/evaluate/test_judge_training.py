r"""The judge's training examples, its loss, and that it learns."""

import math

import numpy as np
import pytest
import torch

from ldm.errors import LdmError
from ldm.lab.evaluate import judge_training
from ldm.lab.evaluate.judge import Judge, read_judge
from ldm.lab.evaluate.judge_training import (
    augment,
    draw_examples,
    example,
    judge_loss,
    label_indices,
    train_judge,
)
from ldm.postcards import QUESTIONS, Animal, Scene, Thing, held_out
from ldm.train.loop import Recipe


def test_an_example_is_a_function_of_its_number_and_series():
    assert example(3)[:2] == example(3)[:2]
    assert [example(i)[0] for i in range(5)] != [example(i, series=1)[0] for i in range(5)]
    assert example(3)[2].random() == example(3)[2].random()


def test_examples_are_of_both_splits_and_some_have_a_flaw_that_can_be_seen():
    examples = [example(i)[:2] for i in range(1500)]
    assert np.mean([held_out(scene) for scene, _ in examples]) == pytest.approx(
        judge_training.HELD_OUT, abs=0.04
    )
    for flaw in ("mottled wall", "odd eyes"):
        flawed = [scene for scene, how in examples if how == flaw]
        assert len(flawed) > 60 and all(
            scene.animals and (scene.wall or flaw == "odd eyes") for scene in flawed
        )


@pytest.mark.long
def test_examples_are_drawn_once(tmp_path):
    path = tmp_path / "deep" / "examples.npy"
    drawn = draw_examples(path, 3).copy()  # not a view of the file, which is overwritten below
    assert drawn.shape == (3, 128, 128, 3) and drawn.std() > 10
    np.save(path, np.zeros_like(drawn))
    assert not draw_examples(path, 3).any()
    np.save(path, drawn[:2])
    with pytest.raises(LdmError, match="damaged"):
        draw_examples(path, 3)


def test_the_drawings_of_other_code_are_not_used_again(tmp_path, monkeypatch):
    paths = []

    def stop(path, count):
        paths.append(path)
        raise InterruptedError

    monkeypatch.setattr(judge_training, "draw_examples", stop)
    for code in ("a1", "b2", "a1"):
        monkeypatch.setattr(judge_training, "drawing_code", lambda code=code: code)
        with pytest.raises(InterruptedError):
            train_judge(tmp_path, tmp_path, count=4)
    assert paths[0] == paths[2] != paths[1]


SEA = Scene("sea", "none", "day", "clear", "left")
BEAR = Scene(wall="pink", animals=(Animal("bear", "white", (), "portrait", 1),))


def test_labels_are_indices_and_minus_one_where_the_question_does_not_apply():
    told = label_indices([(SEA, ""), (BEAR, "mottled wall")])
    assert list(told) == list(QUESTIONS)
    expected = {"place": [2, 5], "relief": [2, -1], "time": [1, -1], "wall": [-1, 7], "uniform wall": [-1, 1],
                "eyes match": [-1, 0], "animals": [0, 1], "first animal": [-1, 3], "second animal": [-1, -1],
                "boat": [0, -1], "boat colour": [-1, -1]}  # fmt: skip
    assert {question: told[question].tolist() for question in expected} == expected


def test_a_judge_that_knows_nothing_pays_the_logarithm_of_the_choices():
    judge = Judge()
    for head in judge.heads.values():
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    right = label_indices([(BEAR, "")])
    asked = [question for question, indices in right.items() if indices[0] >= 0]
    weights = [judge_training.FLAW_WEIGHT if q in judge_training.FLAW_QUESTIONS else 1 for q in asked]
    expected = sum(weight * math.log(len(QUESTIONS[q])) for q, weight in zip(asked, weights, strict=True))
    loss = judge_loss(judge, torch.zeros(1, 3, 128, 128), right)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_question_that_applies_to_few_images_counts_less():
    r"""By the root of its share: of four images one has a boat, whose colour is asked."""
    judge, boat = Judge(), Scene("sea", "none", "day", "clear", "left", things=(Thing("boat", "red", 0),))
    for head in judge.heads.values():
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    right = {"boat colour": label_indices([(boat, ""), *[(SEA, "")] * 3])["boat colour"]}
    loss = judge_loss(judge, torch.zeros(4, 3, 128, 128), right)
    assert loss.item() == pytest.approx(0.25**0.5 * math.log(len(QUESTIONS["boat colour"])), rel=1e-5)


def test_augmentation_depends_on_the_generator_alone_and_leaves_the_image_recognisable():
    drawn = torch.rand(4, 3, 4, 4).repeat_interleave(16, dim=2).repeat_interleave(16, dim=3) * 2 - 1
    augmented = [augment(drawn, torch.Generator().manual_seed(seed)) for seed in (1, 1, *range(2, 8))]
    assert torch.equal(augmented[0], augmented[1]) and not torch.equal(augmented[1], augmented[2])
    for some in augmented:
        assert some.shape == drawn.shape and some.abs().max() <= 1
        assert 0.01 < (some - drawn).abs().mean() < 0.3


@pytest.mark.long
def test_a_judge_learns_and_is_written(tmp_path, monkeypatch):
    flat = np.zeros((8, 128, 128, 3), dtype=np.uint8)
    flat[[i for i in range(8) if example(i)[0].wall]] = 255  # so that walls are easy to see
    monkeypatch.setattr(judge_training, "draw_examples", lambda path, count: flat)
    recipe = Recipe(steps=12, batch=8, lr=3e-3, warmup=2, ema=0.5)
    judge = train_judge(tmp_path, tmp_path / "run", recipe, count=8)
    pixels = torch.from_numpy(flat).permute(0, 3, 1, 2).float() / 127.5 - 1
    told = [seen["place"] == "wall" for seen in judge.predict(pixels)]
    assert told == [bool(example(i)[0].wall) for i in range(8)]
    again = read_judge(tmp_path)(pixels)["place"]
    torch.testing.assert_close(again, judge(pixels)["place"], rtol=0.02, atol=0.02)  # the file is in float16
