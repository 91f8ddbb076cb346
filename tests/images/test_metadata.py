r"""What a PNG says of itself: it survives the way there and back, and damage is told."""

import json
import math
import os
import struct
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ldm.errors import LdmError
from ldm.files.read_write import sha256
from ldm.images.metadata import (
    LONGEST_TEXT,
    File,
    Group,
    Record,
    Versions,
    differences,
    parameters,
    png_texts,
    read_record,
)

RECORD = Record(
    prompt="a dog", negative="", seed=42, sampler="ddim", steps=30, guidance=3.0, width=128, height=64,
    group=Group(0, 1), init=None, strength=None, mask=None, keep_pixels=False, traced=False,
    model="tiny", model_files=(File("config.json", "a" * 64), File("unet.safetensors", "b" * 64)),
    versions=Versions("0.1.0", "2.13.0", "3.12.1", "12.0"), dtype="float32", device="cpu", threads=2,
)  # fmt: skip
INIT = replace(
    RECORD, init=File("dog.png", "c" * 64), strength=0.6, mask=File("m.png", "d" * 64), keep_pixels=True,
    weighting=False, long_prompt="chunk", config=File("c.json", "e" * 64), weights="live", prediction="v",
)  # fmt: skip


SIGNATURE = b"\x89PNG\r\n\x1a\n"


def write_picture(path: Path, record: Record) -> None:
    Image.new("RGB", (8, 8), "red").save(path, pnginfo=png_texts(record))


@pytest.mark.parametrize(
    "record", [RECORD, INIT, replace(RECORD, group=Group(3, 4), traced=True, guidance=1e-17)]
)
def test_a_record_comes_back_as_it_was(tmp_path, record):
    write_picture(tmp_path / "x.png", record)
    assert read_record(tmp_path / "x.png") == record


def test_an_image_from_before_weighting_was_generated_with_todays_defaults(tmp_path):
    younger = ("weighting", "long_prompt", "config", "weights", "prediction", "vae", "vae_files")
    texts = PngInfo()
    texts.add_text("ldm", json.dumps({k: v for k, v in asdict(RECORD).items() if k not in younger}))
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png", pnginfo=texts)
    assert read_record(tmp_path / "x.png") == RECORD


ANY = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates as well


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(prompt=ANY, negative=ANY, model=ANY)
def test_any_text_survives(tmp_path_factory, prompt, negative, model):
    path = tmp_path_factory.getbasetemp() / "any.png"
    record = replace(RECORD, prompt=prompt, negative=negative, model=model)
    write_picture(path, record)
    assert read_record(path) == record


@pytest.mark.parametrize(
    "prompt",
    [
        'say "hi"\nSteps: 5, Seed: 7',
        "un chien à l'été",
        "\N{DOG FACE}\N{ZERO WIDTH JOINER}",
        "\ud83d",
        "\0",
        "x" * 10**5,
    ],
    ids=["lines and quotes", "latin", "emoji", "half a pair", "nul", "100,000 characters"],
)
def test_prompts_that_a_text_chunk_cannot_hold_as_they_are_survive_too(tmp_path, prompt):
    record = replace(RECORD, prompt=prompt)
    write_picture(tmp_path / "x.png", record)
    assert read_record(tmp_path / "x.png") == record
    with Image.open(tmp_path / "x.png") as image:
        seen = prompt.replace("\ud83d", "\ufffd").replace("\0", "\ufffd")
        assert image.info["parameters"].startswith(f"{seen}\nSteps: 30, ")


def test_the_same_record_gives_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / name, INIT)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_parameters_are_written_as_other_programs_read_them():
    assert parameters(RECORD, "DDIM") == (
        "a dog\n"
        "Steps: 30, Sampler: DDIM, CFG scale: 3, Seed: 42, Size: 128x64, Model hash: bbbbbbbbbb, Model: tiny"
    )
    odd = replace(
        INIT,
        negative="a hat",
        sampler="dpmpp_2m_karras",
        guidance=7.25,
        model="weights/my, own: model",
        model_files=(),
    )
    assert parameters(odd, "DPM++ 2M Karras") == (
        "a dog\nNegative prompt: a hat\n"
        "Steps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7.25, Seed: 42, Size: 128x64, "
        'Model: "my, own: model", Denoising strength: 0.6'
    )
    assert parameters(replace(RECORD, clip_skip=2), "DDIM").endswith("Model: tiny, Clip skip: 2")
    spaced = parameters(replace(RECORD, spacing="sgm_uniform"), "Euler", "SGM Uniform")
    assert "Sampler: Euler, Schedule type: SGM Uniform, CFG scale: 3," in spaced


def test_the_model_hash_is_of_the_file_with_the_unet():
    def told(*paths: str) -> bool:
        files = tuple(File(path, str(i) * 64) for i, path in enumerate(paths))
        return "Model hash: 1111111111, " in parameters(replace(RECORD, model_files=files))

    assert told("text.safetensors", "unet.safetensors")
    assert told("unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/x.safetensors")
    assert told("config.json", "v1-5-pruned.ckpt")


def damaged(path: Path, text: str) -> str:
    texts = PngInfo()
    texts.add_text("ldm", text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=texts)
    with pytest.raises(LdmError) as caught:
        read_record(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        (json.dumps(asdict(RECORD))[:-9], "line 1"),
        ("[" * 100_000, "recursion"),
        ("9" * 5000, "digits"),
        ("[]", "record is []; expected an object with the fields of Record"),
        ("{}", "record lacks the fields ['prompt', 'negative', "),
        (json.dumps(asdict(RECORD) | {"seed": "42"}), "record.seed is '42'; expected int"),
        (json.dumps(asdict(RECORD) | {"seed": True}), "record.seed is True; expected int"),
        (json.dumps(asdict(RECORD) | {"guidance": 10**400}), "expected float"),
        (json.dumps(asdict(RECORD) | {"guidance": math.nan}), "record.guidance is NaN; expected a number"),
        (json.dumps(asdict(RECORD) | {"init": "dog.png"}), "record.init is 'dog.png'; expected an object"),
        (
            json.dumps(asdict(RECORD) | {"more": 1}),
            "damaged, or of a newer ldm (record has unknown fields ['more']; expected some of ['aesthetic_score', ",
        ),
        (json.dumps(asdict(RECORD) | {"group": {"index": 4, "count": 4}}), "image 4 of 4"),
    ],
)
def test_a_damaged_record_is_an_error_that_says_where(tmp_path, text, reason):
    message = damaged(tmp_path / "x.png", text)
    assert message.startswith(f"{tmp_path}/x.png: its record is damaged") and reason in message


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("none.png", None, "cannot read {}: No such file or directory"),
        ("empty.png", b"", "{} is not a PNG, or a damaged one; expected one that `ldm generate` wrote"),
        ("text.png", b"hello", "{} is not a PNG, or a damaged one; expected one that `ldm generate` wrote"),
        ("n" * 300, None, "cannot read {}: File name too long"),
        ("nul\0.png", None, "cannot read {}: embedded null byte"),
        (".", None, "cannot read {}: it is a folder; expected a regular file"),
        ("sig.png", SIGNATURE, "{} is not a PNG, or a damaged one; expected one that `ldm generate` wrote"),
    ],
)
def test_what_is_no_image_is_an_error(tmp_path, name, data, reason):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(LdmError) as caught:
        read_record(tmp_path / name)
    assert str(caught.value) == reason.format(tmp_path / name)


def test_an_image_that_says_nothing_and_one_of_another_kind_are_errors(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(
        LdmError, match="x.png has no record of how it was made; expected a PNG that `ldm generate` wrote"
    ):
        read_record(tmp_path / "x.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg")
    with pytest.raises(
        LdmError, match="x.jpg is not a PNG, or a damaged one; expected one that `ldm generate` wrote"
    ):
        read_record(tmp_path / "x.jpg")


def chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    r"""As the PNG specification has it, section 5.3: length, type, data, CRC of type and data."""
    crc = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


HEADER = chunk(b"IHDR", struct.pack(">2I5B", 1, 1, 8, 2, 0, 0, 0))
RECORDED = b"ldm\0" + json.dumps(asdict(RECORD)).encode()


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        (
            [chunk(b"tEXt", b"ldm\0" + b" " * (LONGEST_TEXT + 1)), chunk(b"IDAT", b"")],
            "its record has 4,194,305 characters; expected",
        ),
        ([chunk(b"tEXt", RECORDED, checksum=0)], "is not a PNG, or a damaged one"),
        ([chunk(b"tEXt", RECORDED)[:-9]], "(Truncated File Read); copy the original again"),
        ([chunk(b"zTXt", b"ldm\0\0" + zlib.compress(bytes(2**21)))], "too large"),
        ([chunk(b"IDAT", b""), chunk(b"tEXt", RECORDED)], "has no record of how it was made"),
        ([struct.pack(">I4s", 2**32 - 1, b"none")], "cannot read"),
    ],
    ids=["too long", "another checksum", "cut off", "unpacks to 2 MB", "after the pixels", "a chunk of 4 GB"],
)
def test_chunks_that_are_too_long_or_damaged_are_an_error(tmp_path, chunks, reason):
    (tmp_path / "x.png").write_bytes(SIGNATURE + HEADER + b"".join(chunks))
    with pytest.raises(LdmError) as caught:
        read_record(tmp_path / "x.png")
    assert reason in str(caught.value)


def test_a_file_larger_than_any_image_is_not_read(tmp_path):
    with open(tmp_path / "x.png", "wb") as file:
        file.truncate(2**28 + 1)  # a hole
    with pytest.raises(LdmError, match="x.png has 268,435,457 bytes; expected at most"):
        read_record(tmp_path / "x.png")


def test_a_record_by_hand_is_read(tmp_path):
    data = SIGNATURE + HEADER + chunk(b"tEXt", RECORDED) + chunk(b"IDAT", b"")
    (tmp_path / "x.png").write_bytes(data)
    assert read_record(tmp_path / "x.png") == RECORD


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_a_device_is_neither_read_nor_hashed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        for read in (read_record, sha256):
            with pytest.raises(
                LdmError, match=r"cannot read .*: it is a (named pipe|device); expected a regular"
            ):
                read(path)


def test_nothing_differs_between_a_record_and_itself_at_another_place():
    assert differences(INIT, INIT) == []
    moved = replace(
        INIT, model="elsewhere/tiny", init=File("other/name.png", "c" * 64), prompt="another", seed=1
    )
    assert differences(INIT, moved) == []


def test_every_difference_in_the_surroundings_is_named():
    now = replace(
        INIT, versions=replace(INIT.versions, torch="2.14.0"), dtype="float64", device="cuda:0", threads=8, traced=True,
        compiled=True, group=Group(1, 4), config=None, mask=None, init=File("dog.png", "e" * 64),
        model_files=(File("config.json", "f" * 64), File("unet.safetensors", "b" * 64)),
    )  # fmt: skip
    assert differences(INIT, now) == [
        "torch: 2.13.0 then, 2.14.0 now",
        "dtype: float32 then, float64 now",
        "device: cpu then, cuda:0 now",
        "threads: 2 then, 8 now",
        "traced: False then, True now",
        "compiled: False then, True now",
        "images in the group: 1 then, 4 now",
        "init: sha256 cccccccccc then, sha256 eeeeeeeeee now",
        "mask: sha256 dddddddddd then, none now",
        "config: sha256 eeeeeeeeee then, none now",
        "the model's config.json: sha256 aaaaaaaaaa then, sha256 ffffffffff now",
    ]
