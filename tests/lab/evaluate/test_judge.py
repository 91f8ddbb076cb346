r"""The judge: which questions it is asked, how its answers become errors, and its file."""

import pytest
import torch

from ldm.checkpoints.folder import write_tensors
from ldm.errors import LdmError
from ldm.lab.evaluate.judge import (
    FILE,
    QUESTIONS,
    Judge,
    correct_answers,
    find_judge,
    read_judge,
    wrong_answers,
)
from ldm.postcards import SCENES, Landscape, Portrait

LAKE = Landscape("lake", "hills", "night", "boat")
CAT = Portrait("cat", "grey", "hat", "red")


def test_the_right_answers_are_the_attributes_the_kind_and_the_count():
    assert correct_answers(LAKE) == {
        "kind": "landscape",
        "count": "single",
        "place": "lake",
        "relief": "hills",
        "time": "night",
        "feature": "boat",
    }
    assert correct_answers(CAT, doubled=True) == {
        "kind": "portrait",
        "count": "doubled",
        "animal": "cat",
        "fur": "grey",
        "accessory": "hat",
        "background": "red",
    }


def test_every_answer_to_every_scene_is_one_of_the_choices():
    assert all(
        answer in QUESTIONS[question] for s in SCENES for question, answer in correct_answers(s).items()
    )


def test_an_error_is_an_attribute_that_is_not_as_asked_or_a_double():
    seen = correct_answers(LAKE) | {q: QUESTIONS[q][0] for q in ("animal", "fur", "accessory", "background")}
    assert wrong_answers(seen, LAKE) == {}
    assert wrong_answers(seen | {"time": "sunset", "count": "doubled"}, LAKE) == {
        "time": "sunset",
        "count": "doubled",
    }
    assert wrong_answers(seen | {"fur": "white"}, LAKE) == {}  # this question does not apply to a landscape


def test_the_wrong_kind_is_one_error_whatever_else_is_wrong():
    assert wrong_answers(correct_answers(LAKE), CAT) == {"kind": "landscape"}


@pytest.fixture
def judge():
    torch.manual_seed(0)
    return Judge().eval()


def test_the_likeliest_answer_is_given(judge):
    pixels = torch.rand(3, 3, 128, 128) * 2 - 1
    seen, logits = judge.predict(pixels), judge(pixels)
    for question, choices in QUESTIONS.items():
        assert logits[question].shape == (3, len(choices))
        assert [s[question] for s in seen] == [choices[i] for i in logits[question].argmax(dim=1)]


def test_each_image_is_judged_alone(judge):
    pixels = torch.rand(2, 3, 128, 128) * 2 - 1
    both, second = judge(pixels), judge(pixels[1:])
    for question in QUESTIONS:
        torch.testing.assert_close(both[question][1:], second[question])


def test_images_of_another_size_are_resized(judge):
    small = torch.full((1, 3, 40, 40), 0.25)
    large = torch.full((1, 3, 128, 128), 0.25)
    for question in QUESTIONS:
        torch.testing.assert_close(judge(small)[question], judge(large)[question])


def test_a_judge_is_found_and_read_as_it_was_written(judge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "weights" / "mine"
    write_tensors(folder / FILE, judge.state_dict(), torch.float32)
    assert find_judge("mine") == folder == find_judge(folder)
    written, read = judge.state_dict(), read_judge(folder).state_dict()
    assert written.keys() == read.keys() and all(torch.equal(read[name], written[name]) for name in written)


def test_a_missing_judge_says_how_to_get_one(tmp_path):
    with pytest.raises(LdmError, match="--train-judge"):
        find_judge(tmp_path / "nobody")
