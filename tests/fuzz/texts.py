r"""Tokenizers, and what a PNG says about how it was made."""

import json
import struct
import zlib
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from ldm.images.metadata import KEY, read_record
from ldm.text.tokenizer import Tokenizer
from tests.checkpoints.made import FAMILIES, tokenizer
from tests.fuzz.models import Original, said
from tests.fuzz.mutate import change_json, flip
from tests.fuzz.weights import Files
from tests.small import CONFIG as SMALL


def make_tokenizer(folder: Path) -> Original:
    tokenizer(FAMILIES["sd1"]).save(folder / "words")
    files = {f"words/{file.name}": file.read_text(encoding="utf-8") for file in (folder / "words").iterdir()}
    return Original("words", files, SMALL, {})


def read_tokenizer(folder: Path, _: Any) -> Tokenizer:
    read = Tokenizer.load(folder / "words")
    read("a red dog \u00e9")
    return read


def wrong_tokenizer(folder: Path, read: Tokenizer, _: Any) -> str | None:
    vocab = json.loads((folder / "words/vocab.json").read_bytes())
    lines = (folder / "words/merges.txt").read_bytes().decode().splitlines()[1:]
    if vocab != read.vocab or [tuple(line.split(" ")) for line in lines] != list(read.merges):
        return "another vocabulary"
    return None


RECORD = {
    "prompt": "a dog", "negative": "", "seed": 42, "sampler": "ddim", "steps": 20, "guidance": 7.5, "width": 64,
    "height": 64, "group": {"index": 0, "count": 1}, "init": None, "strength": None,
    "mask": {"path": "m.png", "sha256": "0" * 64},
    "keep_pixels": True, "traced": False, "model": "tiny",
    "model_files": [{"path": "unet.safetensors", "sha256": "1" * 64}],
    "versions": {"ldm": "1", "torch": "2", "python": "3", "pillow": "4"}, "dtype": "float32", "device": "cpu",
    "threads": 1, "weighting": True, "long_prompt": "chunk", "config": None, "weights": "ema", "prediction": None,
    "tile": False, "compiled": False, "vae": "v", "vae_files": [{"path": "vae.safetensors", "sha256": "2" * 64}],
    "spacing": "karras", "clip_skip": 2, "original_size": [512, 768], "aesthetic_score": 6.5,
    "empty_negative": "zero", "loras": [{"path": "l.safetensors", "sha256": "3" * 64, "strength": 0.8}],
    "embeddings": [{"path": "e.pt", "sha256": "4" * 64, "words": ["toy", "<toy>"]}],
    "controls": [{"path": "c.pth", "sha256": "5" * 64, "image": {"path": "c.png", "sha256": "6" * 64},
                  "strength": 1.0, "start": 0.0, "end": 0.5, "guess": False, "prepare": "canny"}],
    "window": 64, "hires": 2.0, "hires_mode": "latent", "hires_strength": 0.6, "reuse": 2,
    "refiner": {"model": "r", "files": [], "switch_at": 0.8}, "guidance_interval": [0.28, 5.42],
}  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(record: bytes) -> bytes:
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 4)) + chunk(b"IEND", b"")
    size = chunk(b"IHDR", struct.pack(">2I5B", 1, 1, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + size
        + chunk(b"tEXt", b"parameters\0a dog")
        + chunk(b"tEXt", KEY.encode() + b"\0" + record)
        + pixels
    )


def mutate_png(rng: Random, base: str) -> Files:
    if rng.random() < 0.3:
        return {"x.png": flip(rng, png(base.encode()))}
    return {"x.png": png(change_json(rng, base))}


def wrong_record(folder: Path, read: Any, _: Any) -> str | None:
    data = (folder / "x.png").read_bytes()
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind == b"tEXt" and body.startswith(KEY.encode() + b"\0"):
            parsed = json.loads(body[len(KEY) + 1 :].decode("latin-1"))
            return None if said(parsed, asdict(read)) else "another record than its JSON says"
        at += 12 + length
    return "a record that is not there"


def read_png(folder: Path, _: Any) -> Any:
    return read_record(folder / "x.png")
