r"""`ldm generate --guidance-interval` and `--reuse`: records, the same image again, and what does not go together."""

import pytest

from ldm.images.metadata import read_record
from tests.cli.terminal import pixels, run, wrong


@pytest.fixture
def generate(capsys, work, model):
    def run_it(*options, out="x.png"):
        given = ("--model", model, "--seed", 5, "--steps", 4, "--guidance", 4, "--out", out)
        code, _, told = run(capsys, "generate", "red dog", *given, *options)
        assert code == 0, told
        return work / out

    return run_it


def test_savings_are_recorded_shown_and_done_again(generate, capsys, model):
    plain = generate(out="plain.png")
    saved = generate("--guidance-interval", "0.2:2.5", "--reuse", 2)
    assert (pixels(saved) != pixels(plain)).any()
    assert (read_record(saved).guidance_interval, read_record(saved).reuse) == ((0.2, 2.5), 2)
    assert (read_record(plain).guidance_interval, read_record(plain).reuse) == (None, None)
    _, out, _ = run(capsys, "info", "x.png")
    assert "guided      from sigma 0.2 to 2.5" in out and "U-Net       whole once in 2 evaluations" in out
    code, _, told = run(capsys, "generate", "--from", "x.png", "--model", model, "--out", "again.png")
    assert code == 0 and told == ["the same pixels as x.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--guidance-interval", "2:1"), "expected two noise levels LOW:HIGH, such as 0.28:5.42"),
        (("--guidance-interval", "much"), "expected two noise levels LOW:HIGH, such as 0.28:5.42"),
        (("--reuse", 2, "--window", 16), "features of one window are not another's: leave out --reuse"),
        (("--reuse", 2, "--trace", "t"), "--trace shows the whole U-Net with guidance at each step"),
        (("--guidance-interval", "1:2", "--trace", "t"), "--trace shows the whole U-Net with guidance"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(capsys, options, message):
    assert message in wrong(capsys, "generate", "red dog", *options)


def test_a_reuse_of_none_is_one_clear_line(capsys, work, model):
    code, _, [*_, told] = run(capsys, "generate", "red dog", "--model", model, "--reuse", 0)
    assert code == 1 and "a whole evaluation every 0 steps; expected 1" in told
