r"""`ldm generate --from PNG`: the same picture again, or what differs."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import ldm
from ldm.checkpoints.write import convert
from ldm.images.metadata import Versions, png_texts, read_record
from ldm.unet.unet import UNet
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file
from tests.cli.terminal import files, pixels, run


@pytest.fixture
def model(model, work) -> str:
    r"""The small model, where a record may take it from unasked."""
    (work / "weights").mkdir()
    (work / "weights/small").symlink_to(model)
    return "weights/small"


@pytest.fixture
def painted(capsys, model, work) -> Path:
    run(
        capsys,
        "generate",
        "red dog",
        "--negative",
        "cat",
        "--model",
        model,
        "--seed",
        5,
        "--out",
        "first.png",
    )
    return work / "first.png"


def rewrite(path: Path, **changes) -> None:
    r"""Change what a picture says of itself."""
    record = replace(read_record(path), **changes)
    with Image.open(path) as image:
        image.load()
    image.save(path, pnginfo=png_texts(record))


def test_the_same_bytes_come_again(capsys, painted, work):
    result = run(capsys, "generate", "--from", "first.png", "--out", "again.png")
    assert result == (0, "again.png\n", ["the same pixels as first.png"])
    assert (work / "again.png").read_bytes() == painted.read_bytes()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_same_bytes_come_again_for_a_picture_out_of_many(capsys, model, work, sampler):
    options = ("--model", model, "--seed", 5, "--batch", 6, "--sampler", sampler, "--dtype", "float64")
    _, out, _ = run(capsys, "generate", "red dog", *options)
    for path in out.splitlines():
        run(capsys, "generate", "--from", path, "--out", "again.png")
        assert (work / "again.png").read_bytes() == (work / path).read_bytes(), path


def test_what_was_painted_compiled_is_compiled_again_if_that_is_asked_for(capsys, model, work, monkeypatch):
    compiled = []
    monkeypatch.setenv("CXX", sys.executable)  # something that is there
    monkeypatch.setattr(UNet, "compile", lambda unet: compiled.append(unet))
    run(capsys, "generate", "red dog", "--model", model, "--seed", 5, "--compile", "--out", "first.png")
    assert len(compiled) == 1 and read_record(work / "first.png").compiled
    again = ("generate", "--from", "first.png", "--out", "again.png")
    assert run(capsys, *again, "--compile")[0] == 0 and len(compiled) == 2
    assert (work / "again.png").read_bytes() == (work / "first.png").read_bytes()
    code, _, told = run(capsys, *again)
    assert code == 0 and len(compiled) == 2 and not read_record(work / "again.png").compiled
    assert told[:2] == [
        "its U-Net was compiled, which is not done unasked: add --compile to compile it again",
        "not as it was: the U-Net: compiled then, as it is written now",
    ]


def test_what_is_traced_is_not_compiled_again_and_that_is_told(capsys, model, work, monkeypatch):
    monkeypatch.setenv("CXX", sys.executable)  # something that is there
    monkeypatch.setattr(UNet, "compile", lambda unet: None)
    run(capsys, "generate", "red dog", "--model", model, "--seed", 5, "--compile", "--out", "first.png")
    monkeypatch.setattr(UNet, "compile", None)
    trace = ("--trace", "inside")
    code, _, told = run(capsys, "generate", "--from", "first.png", "--out", "again.png", *trace)
    assert code == 0 and "not as it was: the U-Net: compiled then, as it is written now" in told
    assert not read_record(work / "again.png").compiled


def test_without_out_the_copy_gets_the_next_number(capsys, painted):
    assert run(capsys, "generate", "--from", "first.png")[1] == "outputs/00001-5.png\n"


def test_what_differs_is_said_and_whether_it_shows(capsys, painted, work):
    rewrite(painted, versions=Versions("0.0.1", "1.0", "3.9", "1.1"), threads=64, device="cuda:9", seed=6)
    code, _, lines = run(capsys, "generate", "--from", "first.png", "--out", "again.png")
    assert code == 0
    assert lines[:-1] == [
        f"not as it was: ldm: 0.0.1 then, {ldm.__version__} now",
        f"not as it was: torch: 1.0 then, {torch.__version__} now",
        f"not as it was: python: 3.9 then, {sys.version.split()[0]} now",
        f"not as it was: pillow: 1.1 then, {read_record(work / 'again.png').versions.pillow} now",
        "not as it was: device: cuda:9 then, cpu now",
        "not as it was: threads: 64 then, 1 now",
    ]
    largest = np.abs(pixels(painted).astype(int) - pixels(work / "again.png")).max()
    assert largest > 2 and lines[-1] == f"up to {largest} of 255 away from first.png"


def test_another_model_can_be_told_to_paint_it_and_is_named(capsys, painted, model, work):
    other = work / "other"
    for path in Path(model).rglob("*"):
        if path.is_file():
            (other / path.relative_to(model)).parent.mkdir(parents=True, exist_ok=True)
            (other / path.relative_to(model)).write_bytes(path.read_bytes())
    same = run(capsys, "generate", "--from", "first.png", "--model", "other", "--out", "a.png")
    assert same == (0, "a.png\n", ["the same pixels as first.png"])  # the same bytes in another place
    text = (other / "config.json").read_text(encoding="utf-8")
    (other / "config.json").write_text(text.replace('"linear"', '"x"') + "\n", encoding="utf-8")
    _, _, [difference, _] = run(
        capsys, "generate", "--from", "first.png", "--model", "other", "--out", "a.png"
    )
    assert difference.startswith("not as it was: the model's config.json: sha256 ")
    assert read_record(work / "a.png").model == "other"


def test_a_model_that_is_gone_is_one_clear_line(capsys, painted):
    rewrite(painted, model="gone/away")
    code, _, [line] = run(capsys, "generate", "--from", "first.png")
    assert code == 1 and line.startswith("ldm: no model 'gone/away': ")


def test_the_picture_it_started_from_is_found_again_or_told(capsys, model, work, monkeypatch):
    read = SimpleNamespace(read_picture=lambda path: Image.open(path).convert("RGB"), read_mask=None)
    monkeypatch.setitem(sys.modules, "ldm.images.reading", read)
    monkeypatch.setattr(
        ldm.LatentDiffusion,
        "generate",
        lambda self, *_, init, batch, **__: [init.copy() for _ in range(batch)],
    )
    Image.new("RGB", (16, 16), "red").save(work / "dog.png")
    run(capsys, "generate", "red dog", "--model", model, "--seed", 1, "--init", "dog.png", "--out", "a.png")
    again = ("generate", "--from", "a.png", "--out", "b.png")
    assert run(capsys, *again)[2] == ["the same pixels as a.png"]
    assert (work / "a.png").read_bytes() == (work / "b.png").read_bytes()
    (work / "dog.png").rename(work / "moved.png")
    code, _, [line] = run(capsys, *again)
    assert code == 1 and line.startswith("ldm: a.png was made from 'dog.png', which does not lie beside it, ")
    assert run(capsys, *again, "--init", "moved.png")[2] == ["the same pixels as a.png"]
    Image.new("RGB", (16, 16), (255, 0, 9)).save(work / "dog.png")
    code, _, [line] = run(capsys, *again)
    assert code == 1 and line.startswith("ldm: dog.png is not what a.png was made from (dog.png: sha256 ")
    _, _, [difference, shown] = run(capsys, *again, "--init", "dog.png")
    assert difference.startswith("not as it was: init: sha256 ") and shown == "up to 9 of 255 away from a.png"


def test_a_picture_to_start_from_where_there_was_none_is_one_clear_line(capsys, painted):
    code, _, [line] = run(capsys, "generate", "--from", "first.png", "--init", "first.png")
    assert code == 1
    assert line == "ldm: --init first.png, but the picture was painted without any; leave --init out"


def test_every_way_of_reading_prompt_and_model_comes_again(capsys, model, work):
    (work / "c.json").write_bytes((Path(model) / "config.json").read_bytes())
    how = ("--no-weighting", "--long-prompt", "chunk", "--prediction", "v")
    long = " ".join(["(red:1.5) dog"] * 20)  # longer than the small model's 30 pieces
    run(capsys, "generate", long, "--model", model, "--seed", 1, "--config", "c.json", "--out", "a.png", *how)
    plain = ("--no-weighting", "--out", "plain.png")  # cut off, and eps
    run(capsys, "generate", long, "--model", model, "--seed", 1, *plain)
    assert (pixels(work / "a.png") != pixels(work / "plain.png")).any()
    (work / "c.json").rename(work / "moved.json")
    code, _, [line] = run(capsys, "generate", "--from", "a.png", "--out", "b.png")
    assert code == 1 and line.endswith("add --config c.json, or say where it is now")
    again = ("generate", "--from", "a.png", "--config", "moved.json", "--out", "b.png")
    assert run(capsys, *again)[2] == ["the same pixels as a.png"]
    record, moved = read_record(work / "a.png"), read_record(work / "b.png")
    assert replace(moved, config=record.config) == record and moved.config.path == "moved.json"


def test_a_model_whose_name_told_what_it_predicts_may_be_renamed(capsys, work):
    config = FAMILIES["sd2-v"]
    path = save(work / "m-768-v.safetensors", config, single_file(config, random_tensors(config)))
    options = ("--steps", 1, "--size", "16x16", "--seed", 1)
    run(capsys, "generate", "a dog", "--model", path.name, "--out", "a.png", *options)
    path.rename(work / "m.safetensors")
    run(capsys, "generate", "--from", "a.png", "--model", "m.safetensors", "--out", "b.png")
    assert (pixels(work / "a.png") == pixels(work / "b.png")).all()
    run(capsys, "generate", "a dog", "--model", "m.safetensors", "--out", "c.png", *options)
    assert (pixels(work / "a.png") != pixels(work / "c.png")).any()


def test_a_picture_that_was_cut_off_or_resized_cannot_be_compared(capsys, painted, work):
    record = read_record(painted)
    with Image.open(painted) as image:
        image.resize((8, 8)).save(work / "small.png", pnginfo=png_texts(record))
    _, _, [line] = run(capsys, "generate", "--from", "small.png", "--out", "a.png")
    assert line == "small.png was resized since it was painted: it cannot be compared"
    painted.write_bytes(painted.read_bytes()[:-200])
    code, out, [line] = run(capsys, "generate", "--from", "first.png", "--out", "b.png")
    assert (code, out) == (1, "b.png\n") and line.startswith(
        "ldm: first.png is damaged, so the new picture cannot be"
    )


@pytest.mark.parametrize(
    "changes",
    [{"dtype": "int8"}, {"sampler": "none"}, {"steps": 0}, {"seed": -1}, {"seed": 2**32}, {"width": 7}],
)
def test_a_record_that_asks_for_what_cannot_be_is_one_clear_line(capsys, painted, work, changes):
    rewrite(painted, **changes)
    code, out, [line] = run(capsys, "generate", "--from", "first.png", "--out", "again.png")
    assert (code, out) == (1, "") and "bug" not in line and files(work) == ["first.png"]


def test_another_vae_is_recorded_and_found_again_or_told(capsys, model, work):
    for name in ("one", "two"):
        convert(Path(model), work / name, dtype=torch.float32)
    tensors = load_file(work / "two" / "vae.safetensors")
    save_file({name: t * 1.5 for name, t in tensors.items()}, work / "two" / "vae.safetensors")
    paint = ("generate", "red dog", "--model", model, "--seed", 5)
    run(capsys, *paint, "--vae", "one", "--out", "own.png")
    run(capsys, *paint, "--vae", "two", "--out", "other.png")
    record = read_record(work / "other.png")
    assert record.vae == "two" and {file.path for file in record.vae_files} == {
        "config.json",
        "vae.safetensors",
    }
    assert not (pixels(work / "own.png") == pixels(work / "other.png")).all()
    assert "VAE: two" in Image.open(work / "other.png").info["parameters"]
    again = ("generate", "--from", "other.png", "--out", "again.png")
    assert run(capsys, *again)[2] == ["the same pixels as other.png"]
    assert (work / "again.png").read_bytes() == (work / "other.png").read_bytes()
    (work / "two").rename(work / "moved")
    assert "ldm: no model 'two'" in run(capsys, *again)[2][0]
    assert run(capsys, *again, "--vae", "moved")[2] == ["the same pixels as other.png"]
    _, _, [difference, _] = run(capsys, *again, "--vae", "one")
    assert difference.startswith("not as it was: the VAE's vae.safetensors: sha256 ")


def test_a_picture_painted_with_the_models_own_vae_says_nothing_of_another(painted):
    record = read_record(painted)
    assert record.vae is None and record.vae_files == ()
