r"""`ldm inspect`, `convert`, `export`, `verify`: what they print, write, refuse. (What they do: tests/checkpoints.)"""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ldm
from ldm.cli.checkpoints import brief
from ldm.files.read_write import sha256
from ldm.lab.verify.compare import Comparison
from ldm.lab.verify.references import Reference
from tests.cli.terminal import files, pixels, run, wrong


def paint(capsys, model, out: str) -> bytes:
    code, *_ = run(capsys, "generate", "red dog", "--model", model, "--seed", 1, "--out", out)
    assert code == 0
    return pixels(Path(out)).tobytes()


def test_inspect_says_what_is_in_it_and_runs_nothing(capsys, model):
    code, out, err = run(capsys, "inspect", model)
    lines = out.splitlines()
    assert (code, err) == (0, []) and lines[0] == f"{model}: model 'small' of this project"
    assert lines[-1] == "ldm.load    opens it"
    unet = sha256(Path(model) / "unet.safetensors")
    assert f"sha256      {unet}  unet.safetensors: not a well-known file" in lines


def test_inspect_without_hash_reads_no_file_whole(capsys, model, monkeypatch):
    monkeypatch.setattr("ldm.checkpoints.inspect.sha256", None)
    code, out, _ = run(capsys, "inspect", model, "--no-hash")
    assert code == 0 and "sha256" not in out and out.endswith("opens it\n")


def test_inspect_knows_a_model_by_its_name(capsys, model, work):
    shutil.copytree(model, work / "weights" / "mine")
    assert run(capsys, "inspect", "mine", "--no-hash")[0] == 0


def test_what_a_file_calls_its_tensors_cannot_drive_the_terminal(capsys, work):
    header = json.dumps({"\x1b[2J\n": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (work / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    code, out, err = run(capsys, "inspect", "x.safetensors")
    assert "\x1b" not in out and "\x1b" not in "".join(err) and code in (0, 1)


def test_a_checkpoint_that_asks_to_run_something_is_shown_and_refused(capsys, work):
    with zipfile.ZipFile(work / "x.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n(S'touch ran'\ntR.")
        archive.writestr("archive/version", "3")
    code, out, _ = run(capsys, "inspect", "x.ckpt")
    assert code == 0 and "pickle asks for os.system" in out and "refused" in out
    code, _, [line] = run(capsys, "convert", "x.ckpt", "out")
    assert code == 1 and "os.system" in line
    code, _, [line] = run(capsys, "generate", "a dog", "--model", "x.ckpt", "--seed", 1)
    assert code == 1 and "os.system" in line and files(work) == ["x.ckpt"]


@pytest.mark.parametrize("command", [("inspect", "no"), ("convert", "no", "out"), ("verify", "n" * 300)])
def test_what_is_not_there_is_one_clear_line(capsys, work, command):
    code, out, [line] = run(capsys, *command)
    assert (code, out, files(work)) == (1, "", []) and "model" in line and "bug" not in line


def test_a_converted_and_an_exported_model_generate_the_same_image(capsys, model, work):
    expected = paint(capsys, model, "a.png")
    assert run(capsys, "export", model, "one.safetensors", "--to", "compvis")[:2] == (0, "one.safetensors\n")
    assert paint(capsys, "one.safetensors", "b.png") == expected
    assert run(capsys, "convert", "one.safetensors", "weights/again")[:2] == (0, "weights/again\n")
    assert paint(capsys, "again", "c.png") == expected
    assert run(capsys, "export", "again", "theirs", "--to", "diffusers")[:2] == (0, "theirs\n")
    assert (work / "theirs" / "model_index.json").is_file()


def test_what_is_not_kept_is_told(capsys, model):
    _, out, err = run(capsys, "convert", model, "out")
    assert out == "out\n" and err == ["not kept: clip.safetensors"]
    live = tuple(f"model.diffusion_model.{i}" for i in range(21))
    few = [*brief(("betas", *live, "model_ema.decay"))]
    assert few == ["betas", "model.* (21 tensors)", "model_ema.decay"]
    assert list(brief(live[:20])) == list(live[:20])


@pytest.mark.parametrize(
    ("command", "out"),
    [(("convert",), "out"), (("export", "--to", "diffusers"), "out"),
     (("export", "--to", "compvis"), "out.safetensors")],
)  # fmt: skip
def test_what_exists_is_kept_unless_force_is_given(capsys, model, work, command, out):
    assert run(capsys, *command, model, out)[0] == 0
    before = {name: (work / name).stat().st_mtime_ns for name in files(work)}
    code, _, [line] = run(capsys, *command, model, out)
    assert code == 1 and line == f"ldm: {out} exists and is kept; to replace it, use force=True (--force)"
    assert {name: (work / name).stat().st_mtime_ns for name in files(work)} == before
    assert run(capsys, *command, model, out, "--force", "--dtype", "float16")[0] == 0
    assert all((work / name).stat().st_mtime_ns > before[name] for name in before)


def test_a_folder_of_something_else_is_kept_even_with_force(capsys, model, work):
    (work / "photos").mkdir()
    (work / "photos" / "cat.jpg").touch()
    code, _, [line] = run(capsys, "convert", model, "photos", "--force")
    assert code == 1 and "it holds no model" in line and files(work) == ["photos/cat.jpg"]


@pytest.mark.parametrize("out", ["taken/x", "n" * 300, "n" * 300 + ".safetensors", "\0.safetensors"])
def test_a_place_that_cannot_be_written_to_is_one_clear_line(capsys, model, work, out):
    (work / "taken").touch()
    to = ("export", "--to", "compvis") if out.endswith(".safetensors") else ("convert",)
    code, _, err = run(capsys, *to, model, out)
    assert code == 1 and err[-1].startswith("ldm: cannot write ") and files(work) == ["taken"]


def test_the_numbers_can_be_stored_narrower(capsys, model, work):
    run(capsys, "convert", model, "half", "--dtype", "float16")
    tensors = load_file(work / "half" / "unet.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_how_to_read_the_files_reaches_the_writers(capsys, model, work):
    run(capsys, "convert", model, "v", "--prediction", "v")
    assert json.loads((work / "v" / "config.json").read_text())["noise"]["prediction"] == "v"
    run(
        capsys, "export", model, "eps.safetensors", "--to", "compvis", "--config", Path(model) / "config.json"
    )
    assert ldm.load("v").config.noise.prediction == "v"
    assert ldm.load("eps.safetensors").config.noise.prediction == "eps"
    assert "invalid choice: 'old'" in wrong(capsys, "convert", model, "out", "--weights", "old")
    assert "the following arguments are required: --to" in wrong(capsys, "export", model, "out")


REFERENCE = Reference(
    "a slice", ("v1-4",), expected=(0.5,), tolerance=0.01, source="there", component="latent"
)


@pytest.fixture
def measured(monkeypatch):
    r"""Stands in for the figures; `measured(got)` says what the model gives. Notes what it was asked."""
    asked = []

    def say(got):
        def compute(model, release, folder):
            asked.append((model.dtype, release, folder))
            return [Comparison(REFERENCE, got)]

        monkeypatch.setattr("ldm.lab.verify.compare.verify", compute)
        return asked

    return say


def test_a_model_that_agrees_is_exit_code_0(capsys, model, work, measured, monkeypatch):
    monkeypatch.setattr("ldm.loading.pick_dtype", lambda numbers, device: torch.bfloat16)
    asked = measured((0.5,))
    code, out, err = run(capsys, "verify", model, "--release", "v1-4", "--files", ".")
    assert (code, err) == (0, []) and out.splitlines()[-1] == "v1-4: agrees"
    assert asked == [(torch.float32, "v1-4", Path("."))]
    assert torch.backends.cudnn.allow_tf32 is False


def test_a_model_that_differs_is_exit_code_1_after_the_table(capsys, model, measured):
    measured((0.6,))
    code, out, [line] = run(capsys, "verify", model)
    assert code == 1 and "FAIL  a slice" in out
    assert line == (
        f"ldm: {model} does not agree with any release that was compared; the table shows what was got and expected"
    )
    _, _, [line] = run(capsys, "verify", model, "--release", "v1-4")
    assert "does not agree with v1-4;" in line


def test_a_model_that_was_not_measured_does_not_agree(capsys, model, measured):
    measured(None)
    assert run(capsys, "verify", model)[0] == 1


def test_a_model_that_nothing_was_published_for_and_a_folder_that_is_none_are_one_clear_line(capsys, model):
    code, out, [line] = run(capsys, "verify", model)
    assert (code, out) == (1, "") and line.startswith(
        "ldm: nothing was published for a model of the sizes of 'small'"
    )
    code, _, [line] = run(capsys, "verify", model, "--files", "no")
    assert code == 1 and line.startswith("ldm: --files no; expected a folder")
