r"""`ldm generate --int8`: recorded, shown, done again, and refused where it would be slow."""

import pytest

from ldm.backend import int8 as module
from ldm.images.metadata import read_record
from tests.cli.terminal import pixels, run, wrong


@pytest.fixture
def generate(capsys, work, model):
    def run_it(*options, out="x.png"):
        given = ("--model", model, "--seed", 5, "--steps", 2, "--size", "64x64", "--out", out)
        code, _, told = run(capsys, "generate", "red dog", *given, *options)
        return code, told, work / out

    return run_it


def test_it_is_recorded_shown_and_done_again(generate, capsys, model, monkeypatch):
    monkeypatch.setattr(module, "instruction_sets", lambda: ["avx512_vnni"])
    (_, _, plain), (_, _, small) = generate(out="plain.png"), generate("--int8")
    assert (pixels(small) != pixels(plain)).any()
    assert (read_record(small).int8, read_record(plain).int8) == (True, False)
    assert ", in 8 bits" in run(capsys, "info", "x.png")[1]
    code, _, told = run(capsys, "generate", "--from", "x.png", "--model", model, "--out", "again.png")
    assert code == 0 and told == ["the same pixels as x.png"]


def test_a_processor_without_the_instructions_is_one_clear_line(generate, monkeypatch):
    monkeypatch.setattr(module, "instruction_sets", lambda: ["avx2"])
    code, told, path = generate("--int8")
    assert code == 1 and "no instructions for 8-bit integers" in told[-1] and not path.exists()


def test_what_does_not_go_together_is_wrong_usage(capsys, monkeypatch):
    assert "leave out --compile" in wrong(capsys, "generate", "dog", "--int8", "--compile")
    assert "--from repeats what the image records: leave out --int8" in wrong(
        capsys, "generate", "--from", "x.png", "--int8"
    )
