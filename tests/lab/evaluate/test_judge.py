r"""The judge: its answers, and its file."""

import pytest
import torch

from ldm.checkpoints.folder import write_tensors
from ldm.errors import LdmError
from ldm.lab.evaluate.judge import FILE, Judge, find_judge, read_judge
from ldm.postcards import QUESTIONS


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


def test_the_judge_can_tell_left_from_right(judge):
    pixels = torch.zeros(1, 3, 128, 128)
    pixels[..., :40] = 1
    both = judge(torch.cat([pixels, pixels.flip(-1)]))
    assert all((logits[0] - logits[1]).abs().max() > 1e-3 for logits in both.values())


def test_images_of_another_size_are_resized(judge):
    small = torch.full((1, 3, 40, 40), 0.25)
    large = torch.full((1, 3, 128, 128), 0.25)
    wide = torch.full((1, 3, 96, 128), 0.25)
    for question in QUESTIONS:
        for other in (small, wide):
            torch.testing.assert_close(judge(other)[question], judge(large)[question])


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
