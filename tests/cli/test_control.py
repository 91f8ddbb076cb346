r"""`ldm generate --control`: the image, its record, the same image again, and what is refused."""

from dataclasses import replace

import pytest
from PIL import Image

from ldm.cli import recorded, replay
from ldm.images.metadata import File, png_texts, read_record
from tests.checkpoints.test_control_file import write_control
from tests.cli.terminal import pixels, run


@pytest.fixture
def weights(work, model):
    (work / "weights").mkdir()
    (work / "weights/small").symlink_to(model)
    write_control(work / "weights/canny.safetensors", seed=5)
    write_control(work / "weights/tile.safetensors", "diffusers", "", seed=6)
    image = Image.new("RGB", (16, 16), "white")
    image.paste((0, 0, 90), (4, 5, 11, 12))
    image.save(work / "weights/box.png")
    image.resize((24, 16)).save(work / "weights/wide.png")
    return work / "weights"


CANNY = ("--control", "weights/canny.safetensors", "--control-image", "weights/box.png")
TILE = ("--control", "weights/tile.safetensors", "--control-image", "weights/wide.png")


@pytest.fixture
def generate(capsys, work, weights):
    def run_it(*options, out="got/x.png", code=0):
        given = ("--model", "small", "--seed", 5, "--steps", 2, "--out", out)
        got, _, told = run(capsys, "generate", "red dog", *given, *options)
        assert got == code, told
        return told if code else work / out

    return run_it


@pytest.fixture
def again(capsys):
    def run_it(*options, source="got/x.png"):
        code, _, told = run(capsys, "generate", "--from", source, "--out", "again.png", *options)
        return code, told

    return run_it


def rewrite(path, **changes) -> None:
    record = replace(read_record(path), **changes)
    with Image.open(path) as image:
        image.load()
    image.save(path, pnginfo=png_texts(record))


SAME = (0, ["the same pixels as got/x.png"])


def test_a_controlnet_steers(generate):
    assert (pixels(generate(*CANNY)) != pixels(generate(out="plain.png"))).any()


@pytest.mark.long
def test_each_option_counts(generate):
    plain, steered = generate(out="plain.png"), generate(*CANNY)
    for options in (("--control-prepare", "canny"), ("--control-strength", 0.5), ("--control-end", 0.5),
                    ("--control-start", 0.5), ("--control-guess",)):  # fmt: skip
        assert (pixels(generate(*CANNY, *options, out="other.png")) != pixels(steered)).any(), options
    assert (pixels(generate(*CANNY, "--control-strength", 0, out="none.png")) == pixels(plain)).all()


def test_the_record_has_all_of_several_and_they_come_again(generate, again, capsys, work):
    strengths, others = (0.7, -0.5), ("--control-end", 0.5, "--control-prepare", "tile")
    chosen = [word for strength in strengths for word in ("--control-strength", strength)] + [*others]
    generate(*CANNY, *TILE, *chosen, "--control-guess", "--batch", 2, out="got")
    [first, second] = sorted((work / "got").iterdir())
    one, other = read_record(second).controls
    assert (one.strength, one.start, one.end, one.guess, one.prepare) == (0.7, 0.0, 0.5, True, "tile")
    assert (other.path, other.image.path) == ("weights/tile.safetensors", "weights/wide.png")
    assert again(source=second)[0] == 0
    assert (work / "again.png").read_bytes() == second.read_bytes()
    _, out, _ = run(capsys, "info", first)
    assert "ControlNet  weights/tile.safetensors (sha256 " in out
    assert ", strength -0.5, from 0 to 0.5 of the steps, guess mode" in out and "prepared: tile" in out
    text = Image.open(first).info["parameters"]
    assert '"Module: tile, Model: tile, Weight: -0.5, Guidance Start: 0, Guidance End: 0.5"' in text


def test_an_image_of_another_size_is_fitted_and_it_is_said(capsys, generate):
    *_, told = run(capsys, "generate", "dog", "--model", "small", "--out", "x.png", "--seed", 1, *TILE)
    assert told == ["weights/wide.png is 24x16 pixels: scaled and cropped to the central 16x16"]


def test_the_files_may_lie_beside_the_image(generate, again, weights, work):
    generate(*CANNY)
    for name in ("canny.safetensors", "box.png"):
        (weights / name).rename(work / "got" / name)
    assert again() == SAME


@pytest.mark.long
def test_other_files_are_given(generate, again, weights, work):
    generate(*CANNY)
    assert again() == SAME
    (weights / "box.png").rename(work / "moved.png")
    code, [line] = again()
    assert code == 1 and "neither a name under weights/ nor beside it; add --control-image " in line
    assert again("--control-image", "moved.png") == SAME
    code, lines = again("--control-image", "weights/wide.png")
    assert code == 0 and lines[0].startswith("differs: the image of ControlNet 1: sha256 ")
    code, [line] = again(*CANNY[:2], *CANNY[:2])
    assert (
        code == 1
        and "got/x.png was generated with 1 of --control, not 2; give it once, or leave it out" in line
    )


def test_a_record_of_many_controlnets_is_not_loaded_unasked(generate, again, monkeypatch):
    path = generate(*CANNY)
    record = read_record(path)
    monkeypatch.setattr(replay, "load_model", lambda *_, **__: pytest.fail("something was opened"))
    rewrite(path, controls=record.controls * 5)
    code, [line] = again()
    assert code == 1 and "5 ControlNets, more than are loaded unasked; to allow it, add --control" in line


@pytest.mark.parametrize(
    ("which", "name"),
    [
        *(
            pytest.param("network", name, marks=pytest.mark.long)
            for name in ("/private.safetensors", "got/link")
        ),
        ("network", "../private.safetensors"),
        ("image", "private.safetensors"),
        pytest.param("image", "got/link", marks=pytest.mark.long),
    ],
)
def test_files_elsewhere_are_named_and_not_read(generate, again, work, monkeypatch, name, which):
    path = generate(*CANNY)
    write_control(work / "private.safetensors")
    (work / "got/link").symlink_to(work / "private.safetensors")
    [used] = read_record(path).controls
    used = replace(used, path=name) if which == "network" else replace(used, image=File(name, "0" * 64))
    rewrite(path, controls=(used,))
    hashed = recorded.hashed
    monkeypatch.setattr(
        recorded, "hashed", lambda at: pytest.fail("it was read") if "private" in str(at) else hashed(at)
    )
    code, [line] = again()
    assert code == 1 and "neither a name under weights/ nor beside it; add --control" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CANNY[:2], "1 of --control and 0 of --control-image: give an image for each"),
        (CANNY[2:], "there is no ControlNet: leave out --control-image, or give --control FILE too"),
        (("--control-guess",), "leave out --control-guess"),
        (
            (*CANNY, *TILE, *("--control-end", 1) * 3),
            "--control-end: give it once, or once for each --control",
        ),
    ],
)
def test_options_that_do_not_go_together_are_a_wrong_usage(capsys, weights, options, message):
    with pytest.raises(SystemExit) as end:
        run(capsys, "generate", "dog", "--model", "small", *options)
    assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*CANNY, "--control-end", 0), "a ControlNet from 0.0 to 0.0 of the steps"),
        ((*CANNY, "--control-strength", "nan"), "a ControlNet's strength of nan"),
        ((*CANNY, "--control-prepare", "depth"), "'depth' needs a network that is not part of this package"),
        ((*CANNY, "--control-prepare", "inpaint"), "of the kind 'inpaint' without a mask"),
        (("--control", "gone.pth", *CANNY[2:]), "there is no ControlNet gone.pth"),
        ((*CANNY[:3], "gone.png"), "gone.png"),
        (("--control", "weights/small", *CANNY[2:]), "is no ControlNet (its config.json names no network);"),
        (("--control", "weights/small/unet.safetensors", *CANNY[2:]), "is no ControlNet, but a file of"),
    ],
)
def test_what_cannot_be_done_is_one_line(generate, work, options, message):
    [told] = generate(*options, code=1)
    assert message in told and not (work / "got").exists()


def test_a_controlnet_as_a_model_is_named(capsys, weights):
    code, _, [*_, line] = run(capsys, "generate", "dog", "--model", "weights/canny.safetensors")
    assert code == 1 and "is a ControlNet: it steers a model, and is none (--control takes it)" in line
