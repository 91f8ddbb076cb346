r"""`ldm train`: which stages run, and how it stops."""

from pathlib import Path

import pytest

from ldm.errors import LdmError
from tests.cli.terminal import files, run


@pytest.mark.parametrize(
    ("asked", "expected"), [("all", ["tokenizer", "clip", "vae", "diffusion", "match"]), ("vae", ["vae"])]
)
def test_train_runs_the_stages_asked_for(capsys, monkeypatch, asked, expected):
    from ldm.train import stages

    called = []
    monkeypatch.setattr(stages, "train_stage", lambda *arguments: called.append(arguments))
    options = ("--out", "m", "--seed", 3, "--steps", 9, "--resume", "--preset", "quick", "--data", "own")
    for compiled in (False, True):
        called.clear()
        code, out, _ = run(capsys, "train", asked, *options, *["--compile"] * compiled)
        assert code == 0
        wanted = (Path("m"), 3, True, 9, "quick", Path("own"), (), compiled, None)
        assert called == [(stage, *wanted) for stage in expected]
        assert out == "the model is in m; use it with: ldm generate PROMPT --model m\n"


def test_compiling_needs_a_compiler(capsys, monkeypatch, work):
    monkeypatch.setenv("CXX", "no-such-compiler")
    code, _, [error] = run(capsys, "train", "diffusion", "--out", "new", "--compile")
    assert code == 1 and error.startswith("ldm: --compile needs a C++ compiler") and files(work) == []


def test_a_stage_that_fails_stops_the_training(capsys, monkeypatch):
    from ldm.train import stages

    called = []

    def fail(stage, *_):
        called.append(stage)
        raise LdmError("no room")

    monkeypatch.setattr(stages, "train_stage", fail)
    assert run(capsys, "train", "all") == (1, "", ["ldm: no room"]) and called == ["tokenizer"]


def test_ctrl_c_is_one_line_and_exit_code_130(capsys, monkeypatch):
    from ldm.train import stages

    def stopped(*_):
        raise KeyboardInterrupt("stopped after step 3 of 5; go on")

    monkeypatch.setattr(stages, "train_stage", stopped)
    assert run(capsys, "train", "clip") == (130, "", ["ldm: stopped after step 3 of 5; go on"])
    monkeypatch.setattr(stages, "train_stage", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(capsys, "train", "clip") == (130, "", ["ldm: interrupted"])


@pytest.mark.parametrize(
    ("stage", "options", "message"),
    [
        ("tokenizer", ("--seed", "-1"), "seed -1; expected a whole number from 0 to 2**32 - 1"),
        ("vae", ("--steps", "0"), "0 training steps; expected at least 1"),
        ("tokenizer", ("--steps", "5"), "--steps 5; the tokenizer is not trained in steps"),
        ("tokenizer", ("--start-from", "x"), "--start-from: the tokenizer has no weights to begin with"),
        (
            "match",
            ("--start-from", "x"),
            "--start-from: this stage begins with the weights in the model's own",
        ),
        ("diffusion", ("--without", "kl"), "--without is for the stage vae, not for diffusion"),
        (
            "tokenizer",
            ("--data", "nowhere"),
            "no folder nowhere; give a folder of images with captions",
        ),
        ("clip", (), "new has no config.json; expected a model folder: train one, starting with"),
    ],
)
def test_training_that_cannot_begin_says_so_before_it_draws_anything(capsys, work, stage, options, message):
    code, out, [error] = run(capsys, "train", stage, "--out", "new", *options)
    assert (code, out) == (1, "") and error.startswith(f"ldm: {message}") and files(work) == []
