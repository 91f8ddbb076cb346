r"""`ldm generate --refiner`: the image, its record, the same image again, and what is refused."""

import pytest
import torch
from PIL import Image

from ldm.checkpoints.folder import write_config, write_tensors
from ldm.images.metadata import read_record
from tests.cli.terminal import pixels, run, wrong
from tests.golden.sdxl import small_sdxl
from tests.test_refiner import small_refiner


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("xl")
    for name, model in (("base", small_sdxl()), ("refiner", small_refiner())):
        model.tokenizer.save(place / name / "tokenizer")
        write_config(place / name, model.config)
        for part in ("text", "text_2", "vae", "unet"):
            if (module := getattr(model, part)) is not None:
                write_tensors(place / name / f"{part}.safetensors", module.state_dict(), torch.float32)
    return place


@pytest.fixture
def generate(capsys, work, folders):
    (work / "weights").mkdir()
    for name in ("base", "refiner"):
        (work / "weights" / name).symlink_to(folders / name)

    def run_it(*options, out="x.png", code=0):
        given = ("--model", "base", "--seed", 5, "--steps", 3, "--out", out)
        got, _, told = run(capsys, "generate", "red dog", *given, *options)
        assert got == code, told
        return told if code else work / out

    return run_it


def test_a_refiner_changes_the_image_and_it_comes_again(generate, capsys, work):
    plain = generate(out="plain.png")
    path = generate("--refiner", "refiner", "--switch-at", 0.5, "--aesthetic-score", 8, "--crop", "3x1")
    assert (pixels(path) != pixels(plain)).any()
    used = read_record(path).refiner
    assert (used.model, used.switch_at) == ("refiner", 0.5) and "unet.safetensors" in {
        f.path for f in used.files
    }
    assert run(capsys, "generate", "--from", path, "--out", "again.png")[2] == [f"the same pixels as {path}"]
    assert (work / "again.png").read_bytes() == path.read_bytes()
    assert "refiner     refiner, from 0.5 of the sampling on" in run(capsys, "info", path)[1]
    text = next(file for file in used.files if file.path == "text.safetensors")
    shown = f"Refiner: refiner [{text.sha256[:10]}], Refiner switch at: 0.5"
    assert shown in Image.open(path).info["parameters"]


@pytest.mark.long
def test_another_refiner_is_named_and_not_used_unasked(generate, capsys, work):
    path = generate("--refiner", "refiner")
    assert read_record(path).refiner.switch_at == 0.8
    (work / "weights/refiner").rename(work / "moved")
    code, _, [line] = run(capsys, "generate", "--from", path, "--out", "again.png")
    assert (
        code == 1 and "neither a name under weights/ nor beside it; add --refiner refiner to use it" in line
    )
    again = run(capsys, "generate", "--from", path, "--refiner", "moved", "--out", "again.png")
    assert again[2] == [f"the same pixels as {path}"]
    for option in ("--trace", "--preview"):
        code, _, [line] = run(capsys, "generate", "--from", path, "--refiner", "moved", option, "t")
        assert code == 1 and f"{option} shows one model" in line
    plain = generate(out="plain.png")
    code, _, [line] = run(capsys, "generate", "--from", plain, "--refiner", "moved")
    assert code == 1 and "was generated without one; leave --refiner out" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--refiner", "base"), "sdxl is no refiner; expected Stable Diffusion XL's"),
        (
            ("--refiner", "refiner", "--switch-at", 1),
            "a refiner that takes over at 1.0; expected more than 0",
        ),
        (("--refiner", "gone"), "gone"),
    ],
)
def test_what_cannot_be_done_is_one_line(generate, options, message):
    assert message in generate(*options, code=1)[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--switch-at", 0.5), "there is no refiner: leave out --switch-at, or give --refiner MODEL too"),
        (("--refiner", "refiner", "--init", "x.png"), "begins as noise: leave out --init, or --refiner"),
        (
            ("--refiner", "refiner", "--trace", "t"),
            "--trace shows one model: leave out --trace, or --refiner",
        ),
    ],
)
def test_options_that_do_not_go_together_are_a_wrong_usage(capsys, options, message):
    assert message in wrong(capsys, "generate", "dog", *options)
