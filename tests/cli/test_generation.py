r"""What generating needs: a model, a device, images to start from; and how each can be missing."""

import contextlib
import hashlib
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import ldm
from ldm.backend.choice import pick_device
from ldm.cli import generation
from ldm.cli.output import progress_bar
from ldm.images.metadata import File, read_record
from tests.cli.terminal import run, wrong
from tests.small import CONFIG, write_small_model


def test_an_image_too_large_for_the_memory_is_one_clear_line(capsys, model, monkeypatch):
    def generate(self, *_, **__):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
        )

    monkeypatch.setattr(ldm.LatentDiffusion, "generate", generate)
    code, _, [_, line] = run(
        capsys, "generate", "red dog", "--model", model, "--seed", 1, "--size", "4096x4096"
    )
    assert code == 1
    assert line.startswith("ldm: not enough memory ([enforce fail") and line.endswith(
        "you tried); use smaller or fewer images, or another device"
    )


@pytest.mark.parametrize("file", ["text.safetensors", "vae.safetensors", "unet.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "not text"])
def test_a_model_that_was_copied_in_part_is_one_clear_line_that_names_the_file(
    capsys, model, work, file, damage
):
    shutil.copytree(model, work / "copy")
    path = work / "copy" / file
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            {"empty": b"", "half": data[: len(data) // 2], "not text": b"\xff\xfe\xff" * 9}[damage]
        )
    code, out, [line] = run(capsys, "generate", "red dog", "--model", work / "copy", "--seed", 1)
    assert (code, out) == (1, "") and "bug" not in line
    assert file in line or "cannot read the model" in line


@pytest.mark.parametrize("name", ["n" * 300, "\x00", ""])
def test_a_model_name_that_no_file_can_have_is_one_clear_line(capsys, name):
    code, out, [line] = run(capsys, "generate", "red dog", "--model", f"{name}/m", "--seed", 1)
    assert (code, out) == (1, "") and "bug" not in line and "model" in line


@pytest.mark.parametrize("device", ["cuda:7", "mps:7", "tpu", ""])
def test_a_device_that_is_not_here_is_one_clear_line(capsys, model, device):
    code, _, [line] = run(capsys, "generate", "red dog", "--model", model, "--seed", 1, "--device", device)
    assert code == 1 and line.startswith(f"ldm: device {device!r} is not here (") and "bug" not in line
    assert line.endswith("); give another, such as cpu, or none to take the fastest") and len(line) < 250


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_numbers_to_compute_with_can_be_chosen(capsys, model, work, dtype):
    code, *_ = run(
        capsys, "generate", "red dog", "--model", model, "--seed", 1, "--dtype", dtype, "--out", "a.png"
    )
    assert code == 0 and read_record(work / "a.png").dtype == dtype
    assert "invalid choice: 'int8'" in wrong(capsys, "generate", "red dog", "--dtype", "int8")


def test_how_to_read_the_files_reaches_the_model_and_the_record(capsys, model, work, monkeypatch):
    text = (Path(model) / "config.json").read_text(encoding="utf-8")
    (work / "c.json").write_text(text.replace('"eps"', '"v"'), encoding="utf-8")
    real, asked = ldm.load, []
    monkeypatch.setattr(ldm, "load", lambda *a, **k: asked.append(k) or real(*a, **k | {"weights": None}))
    for given, prediction in (
        (("--config", "c.json"), "v"),
        (("--config", "c.json", "--prediction", "eps"), "eps"),
    ):
        options = ("--model", model, "--seed", 1, "--out", "a.png", "--weights", "live", *given)
        assert run(capsys, "generate", "red dog", *options)[0] == 0
        assert asked[-1]["weights"] == "live"
        record = read_record(work / "a.png")
        assert record.config == File("c.json", hashlib.sha256((work / "c.json").read_bytes()).hexdigest())
        assert (record.weights, record.prediction) == ("live", "eps" if prediction == "eps" else None)
        kind = real(model, config=work / "c.json", prediction=record.prediction).config.noise.prediction
        assert kind == prediction


def test_a_config_that_is_not_there_is_one_clear_line(capsys, model):
    code, _, [line] = run(capsys, "generate", "red dog", "--model", model, "--seed", 1, "--config", "no.json")
    assert (code, line) == (1, "ldm: cannot read no.json: No such file or directory")


def test_of_a_model_that_is_not_small_the_device_and_the_numbers_chosen_are_told(capsys, model, monkeypatch):
    monkeypatch.setattr("ldm.loading.SMALL", 10)
    monkeypatch.setattr("ldm.loading.pick_dtype", lambda numbers, device: torch.float64)
    code, _, [line] = run(capsys, "generate", "red dog", "--model", model, "--seed", 1)
    assert code == 0 and re.fullmatch(rf"{model}: [\d,]+ parameters in float64 on {pick_device()}", line)


@pytest.fixture
def inputs(monkeypatch):
    r"""Takes any image as a mask, and notes what reaches `generate`."""
    monkeypatch.setattr(generation, "read_mask", lambda path: Image.open(path).convert("L"))
    seen = {}

    def generate(self, prompt, negative, **options):
        seen.update(options)
        return [Image.new("RGB", (16, 16))] * options["batch"]

    monkeypatch.setattr(ldm.LatentDiffusion, "generate", generate)
    return seen


def test_an_image_to_start_from_and_a_mask_reach_the_model_and_the_record(capsys, model, work, inputs):
    Image.new("RGB", (16, 16), "red").save(work / "dog.png")
    Image.new("L", (24, 16), "white").save(work / "mask.png")
    given = ("--init", "dog.png", "--strength", 0.5, "--mask", "mask.png", "--keep-pixels")
    code, _, err = run(capsys, "generate", "red dog", "--model", model, "--seed", 1, "--out", "a.png", *given)
    assert code == 0 and err == ["mask.png is 24x16 pixels: scaled and cropped to the central 16x16"]
    assert inputs["init"].getpixel((0, 0)) == (255, 0, 0) and inputs["mask"].size == (24, 16)
    assert inputs["strength"] == 0.5 and inputs["keep_pixels"] is True
    record = read_record(work / "a.png")
    assert record.init == File("dog.png", hashlib.sha256((work / "dog.png").read_bytes()).hexdigest())
    assert record.mask == File("mask.png", hashlib.sha256((work / "mask.png").read_bytes()).hexdigest())
    assert record.strength == 0.5 and record.keep_pixels
    with Image.open(work / "a.png") as image:
        assert image.info["parameters"].endswith(", Model: small, Denoising strength: 0.5")


def test_an_inpainting_model_takes_the_same_options_and_asks_for_them(capsys, work):
    config = replace(CONFIG, unet=replace(CONFIG.unet, in_channels=9))
    filler = write_small_model(work / "filler", config)
    command = ("generate", "red dog", "--model", filler, "--seed", 1, "--out", "new.png")
    asked = (
        "ldm: this is an inpainting model: it fills the masked region of an image; give it an image and a "
    )
    Image.new("RGB", (16, 16), "red").save(work / "dog.png")
    for given in ((), ("--init", "dog.png")):
        code, out, [line] = run(capsys, *command, *given)
        assert (code, out) == (1, "") and line.startswith(asked) and "--init and --mask" in line
    mask = Image.new("L", (16, 16))
    mask.paste(255, (3, 3, 9, 9))
    mask.save(work / "mask.png")
    given = ("--init", "dog.png", "--mask", "mask.png", "--keep-pixels")
    assert run(capsys, *command, *given) == (0, "new.png\n", [])
    hole, painted = np.asarray(mask) == 255, np.asarray(Image.open(work / "new.png"))
    assert (painted[~hole] == (255, 0, 0)).all() and (painted[hole] != (255, 0, 0)).any()


@pytest.mark.parametrize(("mask", "strength"), [((), 0.75), (("--mask", "dog.png"), 1.0)])
def test_a_strength_that_was_left_out_is_recorded_as_what_was_taken(
    capsys, model, work, inputs, mask, strength
):
    Image.new("RGB", (16, 16), "red").save(work / "dog.png")
    given = ("--init", "dog.png", *mask)
    assert run(capsys, "generate", "red dog", "--model", model, "--seed", 1, "--out", "a.png", *given)[0] == 0
    assert read_record(work / "a.png").strength == inputs["strength"] == strength


def test_an_image_to_start_from_that_is_not_there_is_one_clear_line(capsys, model, work):
    for options in (("--init", "no.png"), ("--init", "no.png", "--mask", "no.png")):
        code, _, [line] = run(capsys, "generate", "red dog", "--model", model, "--seed", 1, *options)
        assert code == 1 and line == "ldm: cannot read no.png: No such file or directory"


@pytest.mark.parametrize(("brackets", "expected"), [((), True), (("--no-weighting",), False)])
def test_a_traced_image_is_generated_under_the_recorder_and_its_report_is_named(
    capsys, model, work, monkeypatch, brackets, expected
):
    class Recording:
        def watch(self, progress):
            assert progress is progress_bar
            return lambda steps, total: self.note(progress(steps, total))

        def note(self, steps):
            for step in steps:
                self.steps += 1
                yield step

        steps = 0

    recording = Recording()

    @contextlib.contextmanager
    def record(model, prompt, weighting):
        assert prompt == "red dog" and weighting is expected
        yield recording

    def write_report(what, images, folder):
        assert what is recording and len(images) == 1
        return [folder / "film.png"]

    monkeypatch.setitem(sys.modules, "ldm.lab.trace", ModuleType("ldm.lab.trace"))
    monkeypatch.setitem(sys.modules, "ldm.lab.trace.recorder", SimpleNamespace(record=record))
    monkeypatch.setitem(sys.modules, "ldm.lab.trace.report", SimpleNamespace(write_report=write_report))
    options = ("--model", model, "--seed", 1, "--out", "a.png", "--trace", "inside")
    assert run(capsys, "generate", "red dog", *options, *brackets)[:2] == (0, "inside/film.png\na.png\n")
    assert recording.steps == 2 and read_record(work / "a.png").traced


def test_a_model_is_loaded_with_the_quicker_products(monkeypatch, model):
    asked, load = [], ldm.load
    monkeypatch.setattr(generation, "use_onednn_matmul", lambda: asked.append("products"))
    monkeypatch.setattr(ldm, "load", lambda *given, **named: asked.append("load") or load(*given, **named))
    generation.load_model(str(model))
    assert asked == ["products", "load"]
