r"""`ldm generate PROMPT`: what it prints, which files it makes, and how it fails."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import ldm
from ldm.cli.generation import load_model
from ldm.cli.output import progress_bar
from ldm.diffusion.micro_conditioning import MicroConditioning
from ldm.images.metadata import read_record
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file
from tests.cli.terminal import files, pixels, run, wrong


def test_an_image_goes_to_outputs_and_its_path_alone_is_printed(capsys, model, work):
    assert run(capsys, "generate", "a dog", "--model", model, "--seed", 42) == (
        0,
        "outputs/00001-42.png\n",
        [],
    )
    assert files(work) == ["outputs/00001-42.png"]
    expected = ldm.load(model).generate("a dog", seed=42)[0]
    assert (pixels(work / "outputs/00001-42.png") == np.asarray(expected)).all()


def test_the_next_image_gets_the_next_number_also_after_a_gap(capsys, model, work):
    (work / "outputs").mkdir()
    for name in ("00007-1.png", "notes.txt", "demo.png", "12-3.png"):
        (work / "outputs" / name).touch()
    for number in (8, 9):
        code, out, _ = run(capsys, "generate", "a dog", "--model", model, "--seed", 42)
        assert (code, out) == (0, f"outputs/0000{number}-42.png\n")


def test_a_batch_has_the_seeds_that_follow(capsys, model, work):
    code, out, _ = run(capsys, "generate", "a dog", "--model", model, "--seed", 5, "--batch", 3)
    assert code == 0 and out.splitlines() == [f"outputs/0000{i + 1}-{5 + i}.png" for i in range(3)]
    alone = ldm.load(model).generate("a dog", seed=7)[0]
    assert np.abs(pixels(work / "outputs/00003-7.png").astype(int) - np.asarray(alone)).max() <= 1


def test_another_size_is_generated_with_a_word_of_warning(capsys, model, work):
    own = ldm.load(model).config.defaults.size
    for size, warned in ((f"{own}x{own}", False), (f"{2 * own}x{own}", True)):
        code, _, err = run(
            capsys, "generate", "a dog", "--model", model, "--seed", 1, "--size", size, "--out", "a.png"
        )
        assert code == 0 and pixels(work / "a.png").shape == (own, int(size.split("x")[0]), 3)
        assert [f"trained at {own}x{own}" in line for line in err] == [True] * warned
    for size in ("wide", "16x-2"):
        told = wrong(capsys, "generate", "a dog", "--model", model, "--size", size)
        assert told.endswith(f"--size: {size!r}; expected pixels, such as 192x128, or 192 for a square")


@pytest.mark.parametrize("asked", [(), ("--seed", "-1")])
def test_a_seed_that_was_drawn_can_be_used_again(capsys, model, work, asked):
    code, out, [told] = run(capsys, "generate", "a dog", "--model", model, *asked)
    seed = re.fullmatch(r"outputs/00001-(\d+)\.png\n", out)[1]
    assert code == 0 and told == f"seed {seed}" and read_record(work / out.strip()).seed == int(seed)
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


def test_every_option_reaches_the_model(capsys, model, monkeypatch):
    seen = {}

    def generate(self, prompt, negative, **options):
        seen.update(options, prompt=prompt, negative=negative)
        return [Image.new("RGB", (2, 2))] * options["batch"]

    monkeypatch.setattr(ldm.LatentDiffusion, "generate", generate)
    given = [
        "--negative=cat",
        "--sampler=ddpm",
        "--spacing=trailing",
        "--steps=7",
        "--guidance=1.5",
        "--seed=9",
        "--batch=2",
        "--size=8x16",
        "--tile",
        "--no-weighting",
        "--long-prompt=chunk",
        "--clip-skip=2",
        "--original-size=64x32",
        "--crop=0x3",
        "--target-size=16",
        "--aesthetic-score=7.5",
        "--empty-negative=zero",
        "--window=16",
        "--guidance-interval=0.5:5",
    ]
    assert run(capsys, "generate", "a dog", "--model", model, *given)[0] == 0
    assert seen.pop("progress") is progress_bar
    assert seen == {
        "prompt": "a dog", "negative": "cat", "sampler": "ddpm", "spacing": "trailing",
        "steps": 7, "guidance": 1.5, "seed": 9, "batch": 2, "size": (8, 16), "tile": True,
        "weighting": False, "long_prompt": "chunk", "clip_skip": 2, "empty_negative": "zero",
        "micro": MicroConditioning((64, 32), (0, 3), (16, 16), 7.5), "window": 16,
        "guidance_interval": (0.5, 5.0), "reuse": None,
    }  # fmt: skip
    run(capsys, "generate", "a dog", "--model", model, "--seed", 0)
    del seen["progress"]
    assert seen == {  # the model's own defaults (tests/small.py)
        "prompt": "a dog", "negative": "", "sampler": "ddim", "spacing": None,
        "steps": 2, "guidance": 2.0, "seed": 0, "batch": 1, "size": (16, 16), "tile": False,
        "weighting": True, "long_prompt": "truncate", "clip_skip": 1, "empty_negative": None, "micro": None,
        "window": None, "guidance_interval": None, "reuse": None,
    }  # fmt: skip


def test_a_file_of_stable_diffusion_xl_generates_inspects_and_replays(capsys, work):
    config = FAMILIES["sdxl"]
    save(work / "xl.safetensors", config, single_file(config, random_tensors(config)))
    sizes = ("--size", "16x32", "--original-size", "64x48", "--crop", "3x1", "--empty-negative", "encoded")
    options = ("--model", "xl.safetensors", "--steps", 1, "--seed", 3, *sizes, "--out", "a.png")
    assert run(capsys, "generate", "a red dog", *options)[0] == 0
    _, told, _ = run(capsys, "info", "a.png")
    assert "original size 64x48" in told and "crop        3x1" in told and "euler_leading, 1 steps" in told
    code, _, said = run(capsys, "generate", "--from", "a.png", "--out", "b.png")
    assert code == 0 and "the same pixels as a.png" in said
    assert "Stable Diffusion XL" in run(capsys, "inspect", "xl.safetensors")[1]
    run(capsys, "generate", "a red dog", *options[:-1], "c.png", "--crop", "0x0")
    assert Image.open("c.png").tobytes() != Image.open("a.png").tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batch", "0"), "a batch of 0 images; expected at least 1"),
        (("--steps", "0"), "0 sampling steps; expected 1 to 1000, the length of the model's noise schedule"),
        (
            ("--steps", "1001"),
            "1001 sampling steps; expected 1 to 1000, the length of the model's noise schedule",
        ),
        (("--guidance", "nan"), "a guidance of nan; expected a finite number, such as 7.5"),
        (
            ("--seed", "-2"),
            "seed -2; expected a whole number from 0 to 2**32 - 1",
        ),
        (
            ("--seed", "4294967295", "--batch", "6"),
            "seed 4294967295 and the 5 after it; the largest is 2**32 - 1 = 4294967295: give a smaller one",
        ),
        (
            ("--out", "dog.jpg"),
            "--out dog.jpg; images are written as .png: give such a name, or a folder",
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


def test_a_disk_that_is_full_leaves_no_half_image(capsys, model, work, monkeypatch):
    def save(self, path, format, pnginfo):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    code, out, [line] = run(capsys, "generate", "a dog", "--model", model, "--seed", 1, "--out", "x.png")
    assert (code, out) == (1, "") and files(work) == []
    assert line == "ldm: cannot write x.png: No space left on device; give another place"


def test_a_sampler_that_is_not_known_is_exit_code_1(capsys, model, work):
    code, out, [line] = run(capsys, "generate", "a dog", "--model", model, "--seed", 1, "--sampler", "dimm")
    assert (code, out) == (1, "") and line.startswith("ldm: sampler 'dimm'; ") and "ddim" in line


@pytest.mark.parametrize("size", ["15x16", "0x16"])
def test_a_size_that_the_model_cannot_make_is_exit_code_1(capsys, model, work, size):
    code, out, lines = run(capsys, "generate", "a dog", "--model", model, "--seed", 1, "--size", size)
    assert (code, out) == (1, "") and files(work) == []
    assert lines[-1].startswith(f"ldm: a size of {size} pixels; both sides must be multiples of 2, such as ")


def test_an_empty_prompt_is_generated_without_guidance_by_words(capsys, model, work):
    code, out, err = run(capsys, "generate", "", "--model", model, "--seed", 1)
    assert (code, out, err) == (0, "outputs/00001-1.png\n", [])
    assert (pixels(work / out.strip()) == np.asarray(ldm.load(model).generate("", seed=1)[0])).all()


@pytest.mark.parametrize(
    "prompt",
    [
        "\x00\x1b[31m\x07red\r\n\tdog\x7f",
        "red \N{DOG FACE} dog",
        "red \ud83d dog",
        "red dog " * 12_500,
        "reddog" * 16_667,
        "\udcff" * 9,
    ],
    ids=[
        "control characters",
        "emoji",
        "half a pair",
        "100,000 characters",
        "one word",
        "bytes that are no text",
    ],
)
def test_any_prompt_is_generated_and_comes_back_from_the_image(capsys, model, work, prompt):
    code, out, _ = run(capsys, "generate", prompt, "--model", model, "--seed", 1, "--out", "a.png")
    assert (code, out) == (0, "a.png\n")
    assert read_record(work / "a.png").prompt == prompt


@pytest.mark.filterwarnings("default:the prompt has")
def test_the_words_that_the_model_has_never_read_are_named(capsys, model):
    options = ("--model", model, "--seed", 1)
    _, _, [line] = run(capsys, "generate", "red unicorn dog", *options, "--negative", "unicorn \x1b zebra")
    assert line.startswith("this model has not learned the words: unicorn, zebra; ")
    assert run(capsys, "generate", "red dog", *options)[2] == []
    many = " ".join(f"z{letter}" for letter in "abcdefghijkl")
    _, _, [line] = run(capsys, "generate", many, *options)
    assert ", zj and 2 more; " in line and "zk" not in line
    _, _, [line, cut] = run(capsys, "generate", "y" * 200, *options)
    assert "these words are cut off: 'yyy" in cut
    assert "y" * 40 + "...; " in line and "y" * 41 not in line


def test_many_images_are_generated_four_at_a_time_each_with_its_own_record(capsys, model, work):
    code, out, _ = run(capsys, "generate", "red dog", "--model", model, "--seed", 5, "--batch", 6)
    assert code == 0 and len(out.splitlines()) == 6
    records = [read_record(work / path) for path in out.splitlines()]
    assert [(r.seed, r.group.index, r.group.count) for r in records] == [
        (5, 0, 4), (6, 1, 4), (7, 2, 4), (8, 3, 4), (9, 0, 2), (10, 1, 2),
    ]  # fmt: skip


def test_the_record_holds_every_setting_and_what_surrounded_it(capsys, model, work):
    run(
        capsys,
        "generate",
        "red dog",
        "--negative",
        "a\ncat",
        "--model",
        model,
        "--seed",
        5,
        "--steps",
        1,
        "--out",
        "x.png",
    )
    record = read_record(work / "x.png")
    assert (record.prompt, record.negative, record.seed, record.steps) == ("red dog", "a\ncat", 5, 1)
    assert (record.sampler, record.guidance, record.width, record.height) == ("ddim", 2.0, 16, 16)
    assert (record.init, record.strength, record.mask, record.keep_pixels) == (None, None, None, False)
    assert (record.model, record.dtype, record.device, record.threads) == (model, "float32", "cpu", 1)
    assert record.versions.torch == torch.__version__ and record.versions.ldm == ldm.__version__
    hashes = {file.path: file.sha256 for file in record.model_files}
    assert set(hashes) == {
        "config.json", "text.safetensors", "unet.safetensors", "vae.safetensors", "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json", "tokenizer/vocab.json",
    }  # fmt: skip
    unet = hashlib.sha256((Path(model) / "unet.safetensors").read_bytes()).hexdigest()
    assert hashes["unet.safetensors"] == unet
    with Image.open(work / "x.png") as image:
        assert image.info["parameters"] == (
            "red dog\nNegative prompt: a\ncat\n"
            f"Steps: 1, Sampler: DDIM, CFG scale: 2, Seed: 5, Size: 16x16, Model hash: {unet[:10]}, Model: small"
        )


def test_the_same_command_writes_the_same_bytes(capsys, model, work):
    for name in ("a.png", "b.png"):
        run(capsys, "generate", "red dog", "--model", model, "--seed", 5, "--out", name)
    assert (work / "a.png").read_bytes() == (work / "b.png").read_bytes()


def stop_after(monkeypatch, pictures: int) -> None:
    r"""Press Ctrl-C during the group that begins when so many images are finished."""
    whole, done = ldm.LatentDiffusion.generate, []

    def generate(self, *arguments, progress, batch, **options):
        def watch(steps, total):
            for step in progress(steps, total):
                yield step
                if len(done) >= pictures:
                    raise KeyboardInterrupt

        images = whole(self, *arguments, progress=watch, batch=batch, **options)
        done.extend(images)
        return images

    monkeypatch.setattr(ldm.LatentDiffusion, "generate", generate)


def test_ctrl_c_keeps_the_finished_images_and_says_so(capsys, model, work, monkeypatch):
    stop_after(monkeypatch, 4)
    code, out, err = run(capsys, "generate", "red dog", "--model", model, "--seed", 1, "--batch", 10)
    assert code == 130 and files(work) == out.splitlines() and len(files(work)) == 4
    assert err == ["ldm: interrupted; 4 of 10 images are finished and kept"]
    for path in out.splitlines():
        assert pixels(work / path).shape == (16, 16, 3)


def test_ctrl_c_during_the_only_image_leaves_nothing(capsys, model, work, monkeypatch):
    stop_after(monkeypatch, 0)
    assert run(capsys, "generate", "red dog", "--model", model, "--seed", 1) == (
        130,
        "",
        ["ldm: interrupted"],
    )
    assert files(work) == []


def test_the_command_line_stores_a_small_unets_kernels_channels_last_and_python_can_still_save_it(
    model, work
):
    ours, theirs = load_model(str(model), "float32"), ldm.load(model, "float32")
    kernels = [part.unet.conv_out.weight for part in (ours, theirs)]
    assert [kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels] == [True, False]
    assert torch.equal(*kernels)
    save_file(theirs.unet.state_dict(), work / "unet.safetensors")
