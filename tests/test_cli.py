r"""The `ldm` command: what it prints, which files it makes, and how it fails."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldm
from ldm import cli
from ldm.cli import main, output_path
from ldm.diffusion.samplers import SAMPLERS
from ldm.errors import LdmError
from ldm.postcards import DEMO_PROMPTS, contact_sheet, postcard
from tests.small import write_small_model

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(write_small_model(tmp_path_factory.mktemp("cli") / "small"))


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch) -> Path:
    r"""Every test runs in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments) -> tuple[int, str, list[str]]:
    r"""Exit code, standard output, and the lines on standard error without progress bars."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, [line for line in re.split(r"[\r\n]+", err) if line.strip() and "%|" not in line]


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_a_picture_goes_to_outputs_and_its_path_alone_is_printed(capsys, model, work):
    assert run(capsys, "generate", "a dog", "--model", model, "--seed", 42) == (
        0,
        "outputs/00001-42.png\n",
        [],
    )
    assert files(work) == ["outputs/00001-42.png"]
    expected = ldm.load(model).generate("a dog", seed=42)[0]
    assert (pixels(work / "outputs/00001-42.png") == np.asarray(expected)).all()


def test_the_next_picture_gets_the_next_number_also_after_a_gap(capsys, model, work):
    (work / "outputs").mkdir()
    for name in ("00007-1.png", "notes.txt", "demo.png", "12-3.png"):
        (work / "outputs" / name).touch()
    for number in (8, 9):
        code, out, _ = run(capsys, "generate", "a dog", "--model", model, "--seed", 42)
        assert (code, out) == (0, f"outputs/0000{number}-42.png\n")


def test_a_batch_has_the_seeds_that_follow(capsys, model, work):
    code, out, _ = run(capsys, "generate", "a dog", "--model", model, "--seed", 5, "--batch", 3)
    assert code == 0
    assert out.splitlines() == [f"outputs/0000{i + 1}-{5 + i}.png" for i in range(3)]
    alone = ldm.load(model).generate("a dog", seed=7)[0]
    assert np.abs(pixels(work / "outputs/00003-7.png").astype(int) - np.asarray(alone)).max() <= 1


def test_another_size_is_painted_with_a_word_of_warning(capsys, model, work):
    own = ldm.load(model).config.defaults.size
    for size, warned in ((f"{own}x{own}", False), (f"{2 * own}x{own}", True)):
        code, _, err = run(
            capsys, "generate", "a dog", "--model", model, "--seed", 1, "--size", size, "--out", "a.png"
        )
        assert code == 0 and pixels(work / "a.png").shape == (own, int(size.split("x")[0]), 3)
        assert [f"trained at {own}x{own}" in line for line in err] == [True] * warned
    with pytest.raises(SystemExit):
        run(capsys, "generate", "a dog", "--model", model, "--size", "wide")
    assert "invalid width_and_height value: 'wide'" in capsys.readouterr().err


def test_a_seed_that_was_drawn_can_be_used_again(capsys, model, work):
    code, out, [told] = run(capsys, "generate", "a dog", "--model", model)
    seed = re.fullmatch(r"outputs/00001-(\d+)\.png\n", out)[1]
    assert code == 0 and told == f"seed {seed}"
    _, _, [told] = run(capsys, "generate", "a dog", "--model", model, "--out", "dog.png")
    other = told.removeprefix("seed ")
    assert other != seed  # but for one chance in two thousand million
    for known, first in ((seed, out.strip()), (other, "dog.png")):
        assert (
            run(capsys, "generate", "a dog", "--model", model, "--seed", known, "--out", "again.png")[2] == []
        )
        assert (pixels(work / first) == pixels(work / "again.png")).all()


@pytest.mark.parametrize(
    ("out", "batch", "expected"),
    [
        ("dog.png", 1, ["dog.png"]),
        ("new/place/dog.PNG", 1, ["new/place/dog.PNG"]),
        ("dog.png", 2, ["dog-0.png", "dog-1.png"]),
        ("pictures", 1, ["pictures/00001-3.png"]),
        ("v1.5", 2, ["v1.5/00001-3.png", "v1.5/00002-4.png"]),
    ],
)
def test_out_is_a_png_file_or_a_folder(capsys, model, work, out, batch, expected):
    options = ("--model", model, "--seed", 3, "--batch", batch, "--out", out)
    code, printed, _ = run(capsys, "generate", "a dog", *options)
    assert code == 0 and printed.splitlines() == expected and files(work) == expected


def test_a_number_goes_to_no_name_that_is_taken(work):
    assert output_path(None, "s", 0, 1) == Path("outputs/00001-s.png")
    (work / "outputs").mkdir()
    (work / "outputs/00041-x.png").touch()
    assert output_path(Path("outputs"), "s", 0, 1) == Path("outputs/00042-s.png")


def test_every_option_reaches_the_model(capsys, model, monkeypatch):
    seen = {}

    def generate(self, prompt, negative, **options):
        seen.update(options, prompt=prompt, negative=negative)
        return [Image.new("RGB", (2, 2))] * options["batch"]

    monkeypatch.setattr(ldm.LatentDiffusion, "generate", generate)
    given = [
        "--negative=cat",
        "--sampler=ddpm",
        "--steps=7",
        "--guidance=1.5",
        "--seed=9",
        "--batch=2",
        "--size=8x16",
    ]
    assert run(capsys, "generate", "a dog", "--model", model, *given)[0] == 0
    assert seen.pop("progress") is cli.progress_bar
    assert seen == {
        "prompt": "a dog", "negative": "cat", "sampler": "ddpm",
        "steps": 7, "guidance": 1.5, "seed": 9, "batch": 2, "size": (8, 16),
    }  # fmt: skip
    run(capsys, "generate", "a dog", "--model", model, "--seed", 0)
    assert [seen[name] for name in ("negative", "sampler", "steps", "guidance", "seed", "batch", "size")] == [
        "", None, None, None, 0, 1, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batch", "0"), "a batch of 0 pictures; expected at least 1"),
        (("--steps", "0"), "0 sampling steps; expected 1 to 1000, the length of the model's noise schedule"),
        (
            ("--steps", "1001"),
            "1001 sampling steps; expected 1 to 1000, the length of the model's noise schedule",
        ),
        (
            ("--sampler", "eulr"),
            f"sampler 'eulr'; did you mean 'euler'? Or one of {', '.join(SAMPLERS)}",
        ),
        (("--guidance", "nan"), "a guidance of nan; expected a finite number, such as 2.0"),
        (("--seed", "-1"), "seed -1; expected a whole number from 0 to 2**63 - 1"),
        (
            ("--out", "dog.jpg"),
            "--out dog.jpg; pictures are written as .png: give such a name, or a folder",
        ),
    ],
)
def test_values_that_do_not_work_are_one_clear_line_and_exit_code_1(capsys, model, work, options, message):
    result = run(capsys, "generate", "a dog", "--model", model, "--seed", 1, *options)
    assert result == (1, "", [f"ldm: {message}"])
    assert files(work) == []


def test_a_model_that_is_not_there_is_exit_code_1(capsys):
    for command in (("generate", "a dog"), ("demo",)):
        code, out, [line] = run(capsys, *command, "--model", "nowhere/model", *["--seed", 1])
        assert (code, out) == (1, "") and line.startswith("ldm: no model 'nowhere/model': ")


@pytest.mark.parametrize("out", ["taken/dog.png", "taken", "taken/deeper"])
def test_a_place_that_cannot_be_written_to_is_exit_code_1(capsys, model, work, out):
    (work / "taken").write_text("a file where a folder should be")
    code, printed, [line] = run(capsys, "generate", "a dog", "--model", model, "--seed", 1, "--out", out)
    assert (code, printed) == (1, "")
    assert re.fullmatch(rf"ldm: cannot write {out}\S*: .+; give another place", line)
    assert files(work) == ["taken"]


def test_the_contact_sheet_and_the_demo_fail_in_the_same_way(capsys, model, work):
    (work / "taken").touch()
    for command in (
        ("postcards", "--size", 16, "--grid", "taken/x.png"),
        ("demo", "--model", model, "--out", "taken"),
    ):
        code, _, lines = run(capsys, *command)
        assert code == 1 and lines[-1].startswith("ldm: cannot write taken/")


def test_a_disk_that_is_full_leaves_no_half_picture(capsys, model, work, monkeypatch):
    def save(self, path, format):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    code, out, [line] = run(capsys, "generate", "a dog", "--model", model, "--seed", 1, "--out", "x.png")
    assert (code, out) == (1, "") and files(work) == []
    assert line == "ldm: cannot write x.png: No space left on device; give another place"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["generate"],
        ["generate", "a dog", "--speed", "9"],
        ["generate", "a dog", "--steps", "many"],
        ["postcards"],
        ["train", "everything"],
    ],
)
def test_what_the_parser_does_not_know_is_exit_code_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == "" and err.startswith("usage: ldm")


@pytest.mark.parametrize("command", [[], ["generate"], ["demo"], ["train"], ["evaluate"], ["postcards"]])
def test_help_is_exit_code_0(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: ldm", *command]))


def test_only_our_own_errors_are_caught(monkeypatch, capsys):
    def broken(options):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "demo", broken)
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


def test_as_a_program_a_failure_is_one_line_and_no_traceback(work):
    command = [sys.executable, "-m", "ldm", "postcards", "--grid", "x.png", "--size", "16"]
    (work / "x.png").mkdir()
    done = subprocess.run(
        command, cwd=work, env={"PYTHONPATH": str(REPOSITORY), "PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"ldm: cannot write x.png: .+; give another place\n", done.stderr)


def test_the_demo_paints_six_prompts_and_a_sheet(capsys, model, work):
    code, out, _ = run(capsys, "demo", "--model", model, "--seed", 4, "--batch", 2, "--out", "six")
    names = [[f"six/demo-{i}-{seed}.png" for seed in (4, 5)] for i in range(1, 7)]
    assert code == 0 and files(work) == sorted([*sum(names, []), "six/demo.png"])
    lines = out.splitlines()
    assert lines[:-2] == [line for prompt, pair in zip(DEMO_PROMPTS, names) for line in (prompt, *pair)]
    assert lines[-2] == "six/demo.png"
    told = rf"12 pictures and a sheet of them in {re.escape(str(work / 'six'))}, \d+\.\d s in all"
    assert re.fullmatch(told, lines[-1])
    painter = ldm.load(model)
    for prompt, pair in zip(DEMO_PROMPTS, names):
        for name, image in zip(pair, painter.generate(prompt, seed=4, batch=2)):
            assert (pixels(work / name) == np.asarray(image)).all()
    # A row a prompt, under a line of text 26 pixels high; a column a seed; gaps of 6.
    sheet = pixels(work / "six/demo.png")
    assert sheet.shape == (6 * (26 + 16) + 6, 2 * (16 + 6) + 6, 3)
    second_of_third = pixels(work / names[2][1])
    assert (sheet[2 * 42 + 26 : 3 * 42, 28:44] == second_of_third).all()


def test_the_sheet_of_the_demo_goes_where_it_is_asked_to(capsys, model, work):
    code, out, _ = run(
        capsys, "demo", "--model", model, "--batch", 1, "--out", "six", "--sheet", "docs/sheet.png"
    )
    assert code == 0 and "docs/sheet.png" in out.splitlines()
    assert "docs/sheet.png" in files(work) and "six/demo.png" not in files(work)


def test_postcards_draws_the_contact_sheet(capsys, work):
    assert run(capsys, "postcards", "--grid", "sheets/all.png", "--size", 16) == (0, "sheets/all.png\n", [])
    assert (pixels(work / "sheets/all.png") == np.asarray(contact_sheet(16))).all()


@pytest.mark.parametrize(
    ("asked", "expected"), [("all", ["tokenizer", "clip", "vae", "diffusion"]), ("vae", ["vae"])]
)
def test_train_runs_the_stages_asked_for(capsys, monkeypatch, asked, expected):
    from ldm.train import stages

    called = []
    monkeypatch.setattr(stages, "train_stage", lambda *arguments: called.append(arguments))
    options = ("--out", "m", "--seed", 3, "--steps", 9, "--resume", "--preset", "quick", "--data", "own")
    code, out, _ = run(capsys, "train", asked, *options)
    assert code == 0
    assert called == [(stage, Path("m"), 3, True, 9, "quick", Path("own"), ()) for stage in expected]
    assert out == "the model is in m; paint with: ldm generate PROMPT --model m\n"


def test_a_stage_that_fails_stops_the_training(capsys, monkeypatch):
    from ldm.train import stages

    called = []

    def fail(stage, *_):
        called.append(stage)
        raise LdmError("no room")

    monkeypatch.setattr(stages, "train_stage", fail)
    assert run(capsys, "train", "all") == (1, "", ["ldm: no room"]) and called == ["tokenizer"]


def test_postcards_are_exported_with_their_captions(capsys, work):
    assert run(capsys, "postcards", "--folder", "cards", "--count", 3, "--size", 16) == (0, "cards\n", [])
    assert files(work) == [*(f"cards/0000{i}.png" for i in range(3)), "cards/metadata.jsonl"]
    for i, line in enumerate((work / "cards/metadata.jsonl").read_text(encoding="utf-8").splitlines()):
        card = postcard(i, size=16)
        assert json.loads(line) == {"file_name": f"0000{i}.png", "text": card.caption}
        assert (pixels(work / f"cards/0000{i}.png") == np.asarray(card.image)).all()
    code, _, [error] = run(capsys, "postcards", "--folder", "none", "--count", 0)
    assert code == 1 and error == "ldm: 0 postcards; expected at least 1" and not (work / "none").exists()
    code, _, [error] = run(capsys, "postcards", "--folder", "cards/00000.png", "--count", 1)
    assert code == 1 and error.startswith("ldm: cannot write to cards/00000.png: ")


def test_ctrl_c_is_one_line_and_exit_code_130(capsys, monkeypatch):
    from ldm.train import stages

    def stopped(*_):
        raise KeyboardInterrupt("stopped after step 3 of 5; go on")

    monkeypatch.setattr(stages, "train_stage", stopped)
    assert run(capsys, "train", "clip") == (130, "", ["ldm: stopped after step 3 of 5; go on"])
    monkeypatch.setattr(stages, "train_stage", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(capsys, "train", "clip") == (130, "", ["ldm: interrupted"])


def test_a_contact_sheet_is_a_png(capsys, work):
    code, out, errors = run(capsys, "postcards", "--grid", "sheet.jpg")
    assert (code, out) == (1, "")
    assert errors == ["ldm: --grid sheet.jpg; pictures are written as .png: give such a name"]


@pytest.mark.parametrize(
    ("stage", "options", "message"),
    [
        ("tokenizer", ("--seed", "-1"), "seed -1; expected a whole number from 0 to 2**32 - 1"),
        ("vae", ("--steps", "0"), "0 training steps; expected at least 1"),
        ("tokenizer", ("--steps", "5"), "--steps 5; the tokenizer has no steps"),
        (
            "tokenizer",
            ("--data", "nowhere"),
            "no folder nowhere; give one that holds images and their captions",
        ),
        ("clip", (), "new has no config.json; expected a model folder: train one, starting with"),
    ],
)
def test_training_that_cannot_begin_says_so_before_it_draws_anything(capsys, work, stage, options, message):
    code, out, [error] = run(capsys, "train", stage, "--out", "new", *options)
    assert (code, out) == (1, "") and error.startswith(f"ldm: {message}") and files(work) == []
