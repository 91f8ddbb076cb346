r"""What a stranger's PNG may have done: nothing that was not asked for."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ldm.cli import again, unasked
from ldm.images.metadata import File, Group, png_texts, read_record
from tests.cli.terminal import run, wrong
from tests.images.test_metadata import RECORD


@pytest.fixture
def own(capsys, model, work) -> Path:
    r"""An image of one's own, in a folder as other people's come, and the model that made it."""
    (work / "weights").mkdir()
    (work / "weights/small").symlink_to(model)
    (work / "got").mkdir()
    run(capsys, "generate", "red dog", "--model", "small", "--seed", 5, "--out", "got/x.png")
    return work / "got/x.png"


@pytest.fixture
def nothing_opened(monkeypatch):
    def opened(*_, **__):
        pytest.fail("something was opened")

    monkeypatch.setattr(again, "load_model", opened)
    monkeypatch.setattr(again, "read_given", opened)


def stranger(path: Path, **changes) -> None:
    record = replace(read_record(path), **changes)
    with Image.open(path) as image:
        image.load()
    image.save(path, pnginfo=png_texts(record))


def file(path: Path, name: str | None = None) -> File:
    r"""A file with its true hash."""
    return File(name or str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def again_from(capsys, *options) -> tuple[int, str]:
    code, out, lines = run(capsys, "generate", "--from", "got/x.png", "--out", "again.png", *options)
    return code, "\n".join(lines)


def test_a_name_under_weights_and_a_file_beside_the_image_are_taken_unasked(capsys, own, work):
    Image.new("RGB", (16, 16), "red").save(work / "got/dog.png")
    made = (
        "generate",
        "a dog",
        "--model",
        "small",
        "--seed",
        1,
        "--init",
        "got/dog.png",
        "--out",
        "got/x.png",
    )
    assert run(capsys, *made)[0] == 0
    assert again_from(capsys) == (0, "the same pixels as got/x.png")
    assert (work / "again.png").read_bytes() == own.read_bytes()
    # Both move to another folder, where the record's path leads nowhere.
    (work / "got").rename(work / "moved")
    result = run(capsys, "generate", "--from", "moved/x.png", "--out", "again.png")
    assert (result[0], result[2]) == (0, ["the same pixels as moved/x.png"])


ELSEWHERE = ["{work}/private.png", "private.png", "got/../private.png", "~/private.png", "got/link.png",
             "file:///{work}/private.png", "\\\\server\\x.png", "C:private.png",
             "/dev/zero", "nul\0", "n" * 300]  # fmt: skip


@pytest.mark.parametrize("option", ["init", "mask", "config"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_file_elsewhere_is_named_and_not_read_even_with_its_hash(
    capsys, own, work, monkeypatch, nothing_opened, name, option
):
    monkeypatch.setenv("HOME", str(work))
    Image.new("RGB", (16, 16)).save(work / "private.png")
    (work / "got/link.png").symlink_to(work / "private.png")
    monkeypatch.setattr(unasked, "given_file", lambda path: pytest.fail("it was read"))
    path = name.format(work=work)
    stranger(own, **{option: file(work / "private.png", path)})
    code, line = again_from(capsys)
    assert (
        code == 1
        and f"got/x.png was made from {path!r}".replace("\\", "\\")[:60] in line.replace("\\\\", "\\")
        or ("which does not lie beside it" in line)
    )
    assert "which does not lie beside it, and other files are not read unasked; add --" + option in line
    assert not (work / "again.png").exists()


def test_a_file_beside_it_with_other_bytes_is_not_opened(capsys, own, work, nothing_opened):
    Image.new("RGB", (16, 16)).save(work / "got/private.png")
    stranger(own, init=File("private.png", "0" * 64))
    code, line = again_from(capsys)
    assert code == 1 and line.startswith("ldm: got/private.png is not what got/x.png was made from (")
    assert "; add --init got/private.png to take it all the same" in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_beside_it_is_not_waited_for(capsys, own, work, nothing_opened):
    os.mkfifo(work / "got/pipe.png")
    stranger(own, init=File("pipe.png", "0" * 64))
    code, line = again_from(capsys)
    assert code == 1 and line.startswith("ldm: cannot read got/pipe.png: it is a named pipe;")


@pytest.mark.parametrize("name", ["{work}/weights/small", "other/small", "weights/../other/small", "~/small",
                                  "https://host/small", "."])  # fmt: skip
def test_a_model_elsewhere_is_named_and_not_opened(capsys, own, work, monkeypatch, nothing_opened, name):
    monkeypatch.setenv("HOME", str(work))
    (work / "other").mkdir()
    for place in (work / "other/small", work / "small"):
        place.symlink_to(work / "weights/small")
    stranger(own, model=name.format(work=work))
    code, line = again_from(capsys)
    assert code == 1 and "which is neither a name under weights/ nor beside it; add --model " in line


def test_a_model_in_the_working_folder_is_not_taken_for_one_under_weights(capsys, own, work, nothing_opened):
    (work / "small").symlink_to(work / "weights/small")
    code, line = again_from(capsys)
    assert code == 1 and "add --model small to take it" in line


@pytest.mark.parametrize("files", ["other bytes", "one that is not there", "none"])
def test_a_model_of_other_bytes_is_not_opened_unless_asked_for(capsys, own, monkeypatch, files):
    true = read_record(own).model_files
    changed = {
        "other bytes": (*true[:-1], replace(true[-1], sha256="0" * 64)),
        "one that is not there": (*true, File("more.safetensors", "0" * 64)),
        "none": (),
    }
    stranger(own, model_files=changed[files])
    with monkeypatch.context() as patch:
        patch.setattr(again, "load_model", lambda *_, **__: pytest.fail("it was opened"))
        code, line = again_from(capsys)
    assert code == 1 and "is not known to be the model that made got/x.png (" in line
    code, line = again_from(capsys, "--model", "small")
    assert code == 0 and line.endswith("the same pixels as got/x.png")


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
def test_much_work_is_not_begun_unless_it_is_asked_for(capsys, own, monkeypatch, changes, options):
    stranger(own, **changes)
    started = []
    monkeypatch.setattr(again, "load_model", lambda *_, **__: started.append(1) or 1 / 0)
    code, line = again_from(capsys)
    assert (code, started) == (1, []) and line == (
        "ldm: got/x.png asks for more than is computed unasked; to allow it, add " + " ".join(options)
    )
    assert again_from(capsys, *options)[0] == 1 and started == [1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--steps", 3],
            "--steps may only repeat what got/x.png says, and recorded is --steps 2; leave it out",
        ),
        (
            ["--size", "8x16"],
            "--size may only repeat what got/x.png says, and recorded is --size 16x16; leave it",
        ),
        (
            ["--compile"],
            "--compile may only repeat what got/x.png says, and it was made without; leave it out",
        ),
    ],
)
def test_what_is_recorded_can_be_repeated_but_not_changed(capsys, own, monkeypatch, options, said):
    monkeypatch.setenv("CXX", "true")  # something that is there
    code, line = again_from(capsys, *options)
    assert code == 1 and line.startswith(f"ldm: {said}")
    assert again_from(capsys, "--steps", 2, "--size", "16x16", "--batch", 1)[0] == 0


ESCAPES = "\x1b[31mred\x1b]0;title\x07\r\x08\x9b2J\u202e"


def test_nothing_in_a_record_or_a_name_drives_the_terminal(capsys, own, work):
    name = f"got/{ESCAPES}.png"
    hostile = File(ESCAPES, ESCAPES)
    odd = replace(
        RECORD, prompt=ESCAPES, negative=ESCAPES, sampler=ESCAPES, init=hostile, mask=hostile, config=hostile,
        model=ESCAPES, model_files=(hostile,), dtype=ESCAPES, device=ESCAPES, weights=ESCAPES, prediction=ESCAPES,
        long_prompt=ESCAPES, versions=replace(RECORD.versions, torch=ESCAPES),
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
