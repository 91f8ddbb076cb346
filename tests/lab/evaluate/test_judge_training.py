r"""The judge's training examples, its loss, and that it learns."""

import math

import numpy as np
import pytest
import torch

from ldm.lab.evaluate import judge_training
from ldm.lab.evaluate.judge import QUESTIONS, Judge, read_judge
from ldm.lab.evaluate.judge_training import (
    augment,
    draw_examples,
    example,
    judge_loss,
    labels,
    train_judge,
)
from ldm.postcards import Landscape, Portrait, held_out
from ldm.train.loop import Recipe


def test_an_example_is_a_function_of_its_number_and_series():
    assert example(3)[:2] == example(3)[:2]
    assert [example(i)[0] for i in range(5)] != [example(i, series=1)[0] for i in range(5)]
    assert example(3)[2].random() == example(3)[2].random()


def test_examples_show_all_combinations_and_many_doubles_but_none_of_nothing():
    examples = [example(i)[:2] for i in range(1500)]
    assert sum(isinstance(scene, Portrait) for scene, _ in examples) == pytest.approx(750, abs=80)
    assert sum(held_out(scene) for scene, _ in examples) > 100
    can = [d for scene, d in examples if not (isinstance(scene, Landscape) and scene.feature == "nothing")]
    assert np.mean(can) == pytest.approx(judge_training.DOUBLED, abs=0.05)
    assert sum(can) == sum(doubled for _, doubled in examples)


@pytest.mark.long
def test_examples_are_drawn_once(tmp_path):
    path = tmp_path / "deep" / "examples.npy"
    drawn = draw_examples(path, 3)
    assert drawn.shape == (3, 128, 128, 3) and drawn.std() > 10
    np.save(path, drawn[:2])
    assert len(draw_examples(path, 3)) == 2


def test_labels_are_indices_and_minus_one_where_the_question_does_not_apply():
    told = labels(
        [
            (Landscape("sea", "none", "day", "nothing"), False),
            (Portrait("bear", "cream", "hat", "pink"), True),
        ]
    )
    expected = {
        "kind": [0, 1],
        "count": [0, 1],
        "place": [2, -1],
        "relief": [2, -1],
        "time": [1, -1],
        "feature": [4, -1],
        "animal": [-1, 3],
        "fur": [-1, 5],
        "accessory": [-1, 1],
        "background": [-1, 7],
    }
    assert {question: indices.tolist() for question, indices in told.items()} == expected


def test_a_judge_that_knows_nothing_pays_the_logarithm_of_the_choices():
    judge = Judge()
    for head in judge.heads.values():
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    right = labels([(Portrait("cat", "grey", "hat", "red"), False)])
    asked = [q for q in QUESTIONS if q not in ("place", "relief", "time", "feature", "count")]
    expected = sum(math.log(len(QUESTIONS[q])) for q in asked) + judge_training.COUNT_WEIGHT * math.log(2)
    loss = judge_loss(judge, torch.zeros(1, 3, 128, 128), right)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


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
    flat[[i for i in range(8) if isinstance(example(i)[0], Portrait)]] = (
        255  # so that the kind is easy to see
    )
    monkeypatch.setattr(judge_training, "draw_examples", lambda path, count: flat)
    recipe = Recipe(steps=12, batch=8, lr=3e-3, warmup=2, ema=0.5)
    judge = train_judge(tmp_path, tmp_path / "run", recipe, count=8)
    pixels = torch.from_numpy(flat).permute(0, 3, 1, 2).float() / 127.5 - 1
    told = [seen["kind"] for seen in judge.predict(pixels)]
    assert told == ["portrait" if isinstance(example(i)[0], Portrait) else "landscape" for i in range(8)]
    again = read_judge(tmp_path)(pixels)["kind"]
    torch.testing.assert_close(again, judge(pixels)["kind"], rtol=0.02, atol=0.02)  # the file is in float16
