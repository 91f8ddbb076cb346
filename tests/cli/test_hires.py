r"""`ldm generate --hires` and `--window`: their records, the same image again, and what does not go with them."""

from dataclasses import replace

import pytest
from PIL import Image

from ldm import pipeline
from ldm.cli import replay
from ldm.images.metadata import png_texts, read_record
from tests.cli.terminal import run, wrong


@pytest.fixture
def generate(capsys, work, model):
    def run_it(*options, out="x.png"):
        given = ("--model", model, "--seed", 5, "--steps", 2, "--out", out)
        code, printed, told = run(capsys, "generate", "red dog", *given, *options)
        return code, told, work / out

    return run_it


def test_an_image_twice_as_large_its_record_and_the_same_image_again(generate, capsys, model):
    code, told, path = generate("--hires", "2x", "--hires-mode", "latent")
    assert code == 0 and "this model was trained at 16x16; if the second pass repeats it" in told[0]
    record = read_record(path)
    assert (record.hires, record.hires_mode, record.hires_strength) == (2.0, "latent", 0.6)
    assert (record.width, record.height, record.window) == (16, 16, None)
    with Image.open(path) as image:
        assert image.size == (32, 32)
        assert "Denoising strength: 0.6, Hires upscale: 2, Hires upscaler: Latent" in image.info["parameters"]
    code, _, told = run(capsys, "generate", "--from", "x.png", "--model", model, "--out", "again.png")
    assert code == 0 and told == ["the same pixels as x.png"]
    _, out, _ = run(capsys, "info", "x.png")
    assert "hires       2x, by latent, strength 0.6" in out and "windows" not in out


def test_pixels_are_the_default_and_strength_may_be_chosen(generate):
    *_, path = generate("--hires", "1.5", "--hires-strength", 0.5)
    record = read_record(path)
    assert (record.hires, record.hires_mode, record.hires_strength) == (1.5, "pixels", 0.5)
    with Image.open(path) as image:
        assert image.size == (24, 24) and "Hires upscaler: Lanczos" in image.info["parameters"]


def test_windows_alone_reach_the_model_and_are_recorded(generate, capsys, monkeypatch):
    sides = []
    monkeypatch.setattr(pipeline, "windowed", lambda denoise, side, *_: sides.append(side) or denoise)
    code, told, windowed = generate("--size", "32x16", "--window", 16, out="a.png")
    assert (code, told, sides, read_record(windowed).window) == (0, [], [16], 16)
    _, out, _ = run(capsys, "info", "a.png")
    assert "windows     of 16 pixels" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--hires-strength", 0.5),
            "nothing is enlarged: leave out --hires-strength, or give --hires 2x too",
        ),
        (("--hires", "2x", "--init", "a.png"), "--hires begins with an image of its own: leave out --init"),
        (
            ("--window", 16, "--trace", "t"),
            "--trace shows one evaluation of the U-Net a step: leave out --trace",
        ),
        (("--hires", "1"), "expected a factor above 1, such as 2x"),
        (("--hires", "two"), "expected a factor above 1, such as 2x"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(capsys, options, message):
    assert message in wrong(capsys, "generate", "red dog", *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--hires", "2x", "--hires-strength", 1), "strength 1.0; expected"),
        (("--window", 6), "windows of 6 pixels; expected a multiple of 2, at least 16"),
        (("--hires", "99x", "--size", "160x160"), "expected at most"),
    ],
)
def test_a_value_that_cannot_be_is_one_clear_line(generate, options, message):
    code, [*_, told], path = generate(*options)
    assert code == 1 and message in told and not path.exists()


def test_a_stranger_cannot_ask_for_a_lot_of_work_unasked(generate, capsys, model, monkeypatch):
    *_, path = generate()
    monkeypatch.setattr(replay, "load_model", lambda *_, **__: pytest.fail("it was begun"))
    for changes, option in (
        (
            {"hires": 99.0, "width": 512, "height": 512, "hires_mode": "latent", "hires_strength": 0.5},
            "--size 512x512",
        ),
        ({"width": 1024, "height": 1024, "window": 16}, "--window 16"),
    ):
        record = replace(read_record(path), **changes)
        Image.new("RGB", (8, 8)).save("y.png", pnginfo=png_texts(record))
        code, _, [line] = run(capsys, "generate", "--from", "y.png", "--model", model)
        assert code == 1 and "asks for more than is computed unasked" in line and option in line
