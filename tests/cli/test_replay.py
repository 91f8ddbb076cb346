r"""`ldm generate --from PNG`: the same image again, or what differs; and what a stranger's PNG cannot have done."""

import hashlib
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import ldm
from ldm.checkpoints.write import convert
from ldm.cli import recorded, replay
from ldm.images.metadata import File, Group, Versions, png_texts, read_record
from ldm.unet.unet import UNet
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file
from tests.cli.terminal import files, pixels, run, wrong
from tests.images.test_metadata import RECORD


@pytest.fixture
def generate(capsys, model, work):
    r"""Generates an image into got/x.png, with a model that has a name under weights/."""
    (work / "weights").mkdir()
    (work / "weights/small").symlink_to(model)

    def run_it(*options, out="got/x.png", prompt="red dog", name="small"):
        code, _, told = run(capsys, "generate", prompt, "--model", name, "--seed", 5, "--out", out, *options)
        assert code == 0, told
        return work / out

    return run_it


@pytest.fixture
def again(capsys, work):
    r"""Repeats got/x.png into again.png; returns the exit code and the lines that are printed."""

    def run_it(*options, source="got/x.png"):
        code, _, told = run(capsys, "generate", "--from", source, "--out", "again.png", *options)
        return code, told

    return run_it


@pytest.fixture
def unopened(monkeypatch):
    for name in ("load_model", "read_inputs"):
        monkeypatch.setattr(replay, name, lambda *_, **__: pytest.fail("something was opened"))


def rewrite(path: Path, **changes) -> None:
    r"""Change what an image says about itself."""
    record = replace(read_record(path), **changes)
    with Image.open(path) as image:
        image.load()
    image.save(path, pnginfo=png_texts(record))


SAME = (0, ["the same pixels as got/x.png"])


def test_the_same_bytes_come_again(generate, again, work):
    path = generate("--negative", "cat")
    assert again() == SAME and (work / "again.png").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_same_bytes_come_again_for_an_image_out_of_many(generate, again, work, sampler):
    folder = generate("--batch", 6, "--sampler", sampler, "--dtype", "float64", out="many")
    for path in sorted(folder.iterdir()):
        assert again(source=path)[0] == 0
        assert (work / "again.png").read_bytes() == path.read_bytes(), path


def test_a_compiled_image_is_compiled_again_only_if_that_is_asked_for(generate, again, work, monkeypatch):
    compiled = []
    monkeypatch.setenv("CXX", sys.executable)  # something that exists
    monkeypatch.setattr(UNet, "compile", lambda unet: compiled.append(unet))
    path = generate("--compile")
    assert len(compiled) == 1 and read_record(path).compiled
    assert again("--compile")[0] == 0 and len(compiled) == 2
    assert (work / "again.png").read_bytes() == path.read_bytes()
    for options in ((), ("--trace", "inside")):
        code, told = again(*options)
        assert code == 0 and len(compiled) == 2 and not read_record(work / "again.png").compiled
        assert "differs: compiled: True then, False now" in told


def test_without_out_the_copy_gets_the_next_number(capsys, generate):
    generate()
    assert run(capsys, "generate", "--from", "got/x.png")[1] == "outputs/00001-5.png\n"


def test_what_differs_is_said_and_whether_it_shows(generate, again, work):
    path = generate()
    rewrite(path, versions=Versions("0.0.1", "1.0", "3.9", "1.1"), threads=64, device="cuda:9", seed=6)
    code, lines = again()
    assert code == 0 and lines[:-1] == [
        f"differs: ldm: 0.0.1 then, {ldm.__version__} now",
        f"differs: torch: 1.0 then, {torch.__version__} now",
        f"differs: python: 3.9 then, {sys.version.split()[0]} now",
        f"differs: pillow: 1.1 then, {read_record(work / 'again.png').versions.pillow} now",
        "differs: device: cuda:9 then, cpu now",
        "differs: threads: 64 then, 1 now",
    ]
    largest = np.abs(pixels(path).astype(int) - pixels(work / "again.png")).max()
    assert largest > 2 and lines[-1] == f"pixels differ from got/x.png by up to {largest}/255"


def test_another_model_can_be_given_and_is_named(generate, again, model, work):
    generate()
    shutil.copytree(model, work / "other")
    assert again("--model", "other") == SAME  # the same bytes in another place
    text = (work / "other/config.json").read_text(encoding="utf-8")
    (work / "other/config.json").write_text(text.replace('"linear"', '"x"') + "\n", encoding="utf-8")
    _, [difference, _] = again("--model", "other")
    assert difference.startswith("differs: the model's config.json: sha256 ")
    assert read_record(work / "again.png").model == "other"


def test_an_init_image_beside_it_is_found_again_wherever_both_are(generate, again, work):
    (work / "got").mkdir()
    Image.new("RGB", (16, 16), "red").save(work / "got/dog.png")
    path = generate("--init", "got/dog.png")
    assert again() == SAME and (work / "again.png").read_bytes() == path.read_bytes()
    (work / "got").rename(work / "moved")
    assert again(source="moved/x.png") == (0, ["the same pixels as moved/x.png"])
    (work / "moved/dog.png").rename(work / "dog.png")
    code, [line] = again(source="moved/x.png")
    assert code == 1 and line.endswith("; add --init got/dog.png to use it, or say where it is now")
    assert again("--init", "dog.png", source="moved/x.png") == (0, ["the same pixels as moved/x.png"])
    Image.new("RGB", (16, 16), "blue").save(work / "dog.png")
    _, [difference, shown] = again("--init", "dog.png", source="moved/x.png")
    assert difference.startswith("differs: init: sha256 ") and shown.startswith(
        "pixels differ from moved/x.png by "
    )


def test_an_init_image_beside_it_is_found_by_its_last_name_wherever_it_was(generate, again, work):
    (work / "got").mkdir()
    Image.new("RGB", (16, 16), "red").save(work / "got/dog.png")
    path = generate("--init", work / "got/dog.png")
    assert read_record(path).init.path == str(work / "got/dog.png") and again() == SAME
    (work / "got").rename(work / "moved")
    assert again(source="moved/x.png") == (0, ["the same pixels as moved/x.png"])


def test_an_init_image_where_there_was_none_is_an_error(generate, again):
    generate()
    assert again("--init", "got/x.png") == (
        1, ["ldm: --init got/x.png, but got/x.png was generated without one; leave --init out"]
    )  # fmt: skip


def test_every_way_of_reading_prompt_and_model_comes_again(generate, again, model, work):
    (work / "c.json").write_bytes((Path(model) / "config.json").read_bytes())
    how = ("--no-weighting", "--long-prompt", "chunk", "--prediction", "v", "--config", "c.json")
    long = " ".join(["(red:1.5) dog"] * 20)  # longer than the small model's 30 tokens
    path = generate(*how, prompt=long)
    plain = generate("--no-weighting", prompt=long, out="plain.png")  # truncated, and eps
    assert (pixels(path) != pixels(plain)).any()
    code, [line] = again()
    assert code == 1 and line.endswith("add --config c.json to use it, or say where it is now")
    (work / "c.json").rename(work / "moved.json")
    assert again("--config", "moved.json") == SAME
    record, moved = read_record(path), read_record(work / "again.png")
    assert replace(moved, config=record.config) == record and moved.config.path == "moved.json"


def test_a_model_whose_name_said_what_it_predicts_may_be_renamed(capsys, generate, again, work):
    config = FAMILIES["sd2-v"]
    path = save(work / "m-768-v.safetensors", config, single_file(config, random_tensors(config)))
    options = ("--steps", 1, "--size", "16x16")
    first = generate(*options, name=path.name)
    path.rename(work / "m.safetensors")
    again("--model", "m.safetensors")
    assert (pixels(first) == pixels(work / "again.png")).all()
    assert (pixels(first) != pixels(generate(*options, name="m.safetensors", out="c.png"))).any()


def test_a_truncated_or_resized_image_cannot_be_compared(generate, again, work):
    path = generate()
    with Image.open(path) as image:
        image.resize((8, 8)).save(work / "small.png", pnginfo=png_texts(read_record(path)))
    _, [line] = again(source="small.png")
    assert line == "small.png was resized after it was generated, so it cannot be compared"
    path.write_bytes(path.read_bytes()[:-200])
    code, [line] = again()
    assert code == 1 and line.startswith(
        "ldm: got/x.png is damaged, so the new image cannot be compared with it ("
    )
    assert (work / "again.png").exists()


@pytest.mark.parametrize(
    "changes",
    [{"dtype": "int8"}, {"sampler": "none"}, {"steps": 0}, {"seed": -1}, {"seed": 2**32}, {"width": 7}],
)
def test_a_record_that_asks_for_the_impossible_is_one_clear_line(generate, again, work, changes):
    rewrite(generate(), **changes)
    code, [line] = again()
    assert code == 1 and "bug" not in line and files(work) == ["got/x.png"]


def test_another_vae_is_recorded_and_found_again_or_named(generate, again, model, work):
    own = generate(out="own.png")
    assert read_record(own).vae is None and read_record(own).vae_files == ()
    convert(Path(model), work / "got/two", dtype=torch.float32)
    tensors = load_file(work / "got/two/vae.safetensors")
    save_file({name: t * 1.5 for name, t in tensors.items()}, work / "got/two/vae.safetensors")
    path = generate("--vae", "got/two")
    record = read_record(path)
    assert record.vae == "got/two" and [f.path for f in record.vae_files] == [
        "config.json",
        "vae.safetensors",
    ]
    assert (pixels(own) != pixels(path)).any()
    assert "VAE: two" in Image.open(path).info["parameters"]
    assert again() == SAME and (work / "again.png").read_bytes() == path.read_bytes()
    (work / "got/two").rename(work / "moved")
    assert "add --vae got/two to use it" in again()[1][0]
    assert again("--vae", "moved") == SAME
    assert any(
        line.startswith("differs: the VAE's vae.safetensors: sha256 ") for line in again("--vae", "small")[1]
    )


# --- what a stranger's PNG cannot have done ---

ELSEWHERE = ["{work}/private.png", "private.png", "got/../private.png", "~/private.png", "got/link.png",
             "file:///{work}/private.png", "\\\\server\\x.png", "C:private.png",
             "/dev/zero", "nul\0", "n" * 300]  # fmt: skip


@pytest.mark.parametrize(
    "option", ["init", *(pytest.param(o, marks=pytest.mark.long) for o in ("mask", "config"))]
)
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_file_elsewhere_is_named_and_not_read_even_with_its_hash(
    generate, again, work, monkeypatch, unopened, name, option
):
    path = generate()
    monkeypatch.setenv("HOME", str(work))
    Image.new("RGB", (16, 16)).save(work / "private.png")
    (work / "got/link.png").symlink_to(work / "private.png")
    monkeypatch.setattr(recorded, "hashed", lambda path: pytest.fail("it was read"))
    digest = hashlib.sha256((work / "private.png").read_bytes()).hexdigest()
    rewrite(path, **{option: File(name.format(work=work), digest)})
    code, [line] = again()
    assert code == 1 and "which is neither a name under weights/ nor beside it; add --" + option in line
    assert not (work / "again.png").exists()


def test_a_file_beside_it_with_other_bytes_is_not_opened(generate, again, work, unopened):
    path = generate()
    Image.new("RGB", (16, 16)).save(work / "got/private.png")
    rewrite(path, init=File("private.png", "0" * 64))
    code, [line] = again()
    assert code == 1 and line.startswith(
        "ldm: got/private.png is not known to be what got/x.png was made with ("
    )
    assert line.endswith("; add --init got/private.png to use it, or say where it is now")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_beside_it_is_not_waited_for(generate, again, work, unopened):
    path = generate()
    os.mkfifo(work / "got/pipe.png")
    rewrite(path, init=File("pipe.png", "0" * 64))
    code, [line] = again()
    assert code == 1 and line.startswith("ldm: cannot read got/pipe.png: it is a named pipe;")


@pytest.mark.parametrize("name", ["{work}/weights/small", "other/small", "weights/../other/small", "~/small",
                                  "https://host/small", ".", "", "gone/away"])  # fmt: skip
def test_a_model_elsewhere_is_named_and_not_opened(generate, again, work, monkeypatch, unopened, name):
    path = generate()
    monkeypatch.setenv("HOME", str(work))
    (work / "other").mkdir()
    for place in (work / "other/small", work / "small"):
        place.symlink_to(work / "weights/small")
    rewrite(path, model=name.format(work=work))
    code, [line] = again()
    assert code == 1 and "which is neither a name under weights/ nor beside it; add --model " in line


@pytest.mark.parametrize("name", ["", ".", "other"])
def test_a_vae_elsewhere_is_named_and_not_opened(generate, again, work, unopened, name):
    (work / "other").symlink_to(work / "weights/small")
    rewrite(generate(), vae=name)
    code, [line] = again()
    assert code == 1 and f"was made with {name!r}, which is neither a name under weights/ nor beside" in line


def test_a_model_in_the_working_folder_is_not_mistaken_for_one_under_weights(generate, again, work, unopened):
    generate()
    (work / "small").symlink_to(work / "weights/small")
    code, [line] = again()
    assert code == 1 and "add --model small to use it" in line


@pytest.mark.parametrize("files", ["other bytes", "a missing file", "none"])
def test_a_model_of_other_bytes_is_not_opened_unless_asked_for(generate, again, monkeypatch, files):
    path = generate()
    true = read_record(path).model_files
    changed = {
        "other bytes": (*true[:-1], replace(true[-1], sha256="0" * 64)),
        "a missing file": (*true, File("more.safetensors", "0" * 64)),
        "none": (),
    }
    rewrite(path, model_files=changed[files])
    with monkeypatch.context() as patch:
        patch.setattr(replay, "load_model", lambda *_, **__: pytest.fail("it was opened"))
        code, [line] = again()
    assert code == 1 and "is not known to be what got/x.png was made with (" in line
    code, lines = again("--model", "small")
    assert code == 0 and lines[-1] == "the same pixels as got/x.png"


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"steps": 1_000_000}, ["--steps", "1000000"]),
        ({"width": 8192, "height": 8192}, ["--size", "8192x8192"]),
        ({"group": Group(0, 1000)}, ["--batch", "1000"]),
        ({"long_prompt": "chunk", "prompt": "dog " * 6000}, ["--long-prompt", "chunk"]),
        ({"steps": 2000, "group": Group(0, 17)}, ["--steps", "2000", "--batch", "17"]),
        ({"width": 1024, "height": 1024, "group": Group(0, 5)}, ["--size", "1024x1024"]),
    ],
)
def test_much_work_is_not_begun_unless_it_is_asked_for(generate, again, monkeypatch, changes, options):
    rewrite(generate(), **changes)
    started = []
    monkeypatch.setattr(replay, "load_model", lambda *_, **__: started.append(1) or 1 / 0)
    expected = "ldm: got/x.png asks for more than is computed unasked; to allow it, add " + " ".join(options)
    assert again() == (1, [expected]) and started == []
    assert again(*options)[0] == 1 and started == [1]


@pytest.mark.parametrize(
    ("option", "recorded"),
    [
        (("--steps", 3), "records steps = 2, and --steps can only repeat that"),
        (("--size", "8x16"), "records size = 16x16, and --size can only repeat that"),
        (("--compile",), "was generated without --compile"),
        (("--window", 64), "was generated without --window"),
        (("--lora", "x.safetensors"), "was generated without one"),
        (("--control-image", "x.png"), "was generated without one"),
    ],
)
def test_what_is_recorded_can_be_repeated_but_not_changed(generate, again, monkeypatch, option, recorded):
    monkeypatch.setenv("CXX", "true")  # something that exists
    generate()
    code, [line] = again(*option)
    assert code == 1 and f"got/x.png {recorded}; leave " in line
    assert again("--steps", 2, "--size", "16x16", "--batch", 1) == SAME


ESCAPES = "\x1b[31mred\x1b]0;title\x07\r\x08\x9b2J\u202e"


def test_nothing_in_a_record_or_a_name_drives_the_terminal(capsys, generate, work):
    generate()
    name = f"got/{ESCAPES}.png"
    hostile = File(ESCAPES, ESCAPES)
    odd = replace(
        RECORD, prompt=ESCAPES, negative=ESCAPES, sampler=ESCAPES, init=hostile, mask=hostile, config=hostile,
        model=ESCAPES, model_files=(hostile,), dtype=ESCAPES, device=ESCAPES, weights=ESCAPES, prediction=ESCAPES,
        long_prompt=ESCAPES, versions=replace(RECORD.versions, torch=ESCAPES), vae=ESCAPES, vae_files=(hostile,),
    )  # fmt: skip
    image = Image.new("RGB", (8, 8))
    image.save(work / name, pnginfo=png_texts(odd))
    image.save(work / "got/y.png", pnginfo=png_texts(replace(odd, init=None, mask=None, config=None)))
    (work / f"{ESCAPES}.safetensors").write_bytes(b"none")
    commands = [
        ("info", name), ("info", f"{ESCAPES}/none.png"), ("generate", "--from", name),
        ("generate", "--from", "got/y.png"), ("generate", "--from", "got/y.png", "--model", "small"),
        ("inspect", f"{ESCAPES}.safetensors"), ("inspect", ESCAPES), ("generate", "a dog", "--model", ESCAPES),
        ("generate", "a dog", "--model", "small", "--init", ESCAPES), ("generate", "--prompts", ESCAPES),
        ("train", "clip", "--data", ESCAPES, "--out", ESCAPES), ("--debug", "info", ESCAPES),
    ]  # fmt: skip
    for command in commands:
        code, out, lines = run(capsys, *command)
        told = out + "\n".join(lines)
        assert told and all(c.isprintable() or c == "\n" for c in told), (command, told)
    assert ESCAPES not in wrong(capsys, "info", "a.png", ESCAPES)  # as `ldm info *` may become


def test_another_unet_is_recorded_and_found_again(generate, again, work):
    config = FAMILIES["sd1"]
    save(work / "weights/base.safetensors", config, single_file(config, random_tensors(config)))
    other = {
        name.removeprefix("model.diffusion_model."): tensor
        for name, tensor in single_file(config, random_tensors(config, seed=1)).items()
        if name.startswith("model.diffusion_model.")
    }
    (work / "got").mkdir()
    save_file(other, work / "got/lcm_unet.safetensors")
    size = ("--size", "16x16", "--dtype", "float32")
    path = generate("--unet", "got/lcm_unet.safetensors", *size, name="base.safetensors")
    record = read_record(path)
    assert record.unet == "got/lcm_unet.safetensors" and record.sampler == "lcm"
    assert [file.path for file in record.unet_files] == ["lcm_unet.safetensors"]
    assert again()[1][-1] == SAME[1][0]
    (work / "got/lcm_unet.safetensors").rename(work / "moved.safetensors")
    assert "add --unet got/lcm_unet.safetensors to use it" in again()[1][0]
    assert again("--unet", "moved.safetensors")[1][-1] == SAME[1][0]
