r"""The kinds of files: an original of each, how it is mutated, how it is read, and what says that it was read right.

A case is right if the reader raised our own error, or if what it gave is what somebody else reads in the same file: the
`safetensors` package, Python's `zipfile` and `pickle` (its functions replaced by notes), `json`. Where a whole model is
opened, its tensors must be those of the original, and its config what the changed JSON says.
"""

import io
import json
import math
import pickle
import shutil
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ldm.config import Config
from ldm.convert.fitting import configs_of, skeletons
from ldm.convert.gather import Gathered, gather
from ldm.convert.inspect import inspect
from ldm.convert.opening import CONFIG, TOKENIZER
from ldm.convert.pickled import globals_of, read_pickled
from ldm.convert.readers import read_file
from ldm.convert.safe import map_tensors, read_header, write_safetensors
from ldm.convert.words import tokenizer_text
from ldm.convert.writing import export
from ldm.errors import LdmError
from ldm.loading import read_config
from ldm.record import KEY, SIGNATURE, read_record
from ldm.text.tokenizer import Tokenizer
from tests.convert.handwritten import zip_archive
from tests.convert.made import FAMILIES, random_tensors, single_file, tokenizer
from tests.fuzz.mutate import (
    attacks,
    change_archive,
    change_json,
    change_program,
    change_text,
    flip,
    unpacked,
)
from tests.small import CONFIG as SMALL
from tests.small import write_small_model

Files = dict[str, bytes]


@dataclass(frozen=True)
class Kind:
    r"""One kind of files. `share`: how many of a thousand cases are of it."""

    name: str
    share: int
    make: Callable[[Path], Any]  # puts the originals into a folder; returns what the others want to know
    mutate: Callable[[Random, Any], Files]  # the files that are changed, by name
    read: Callable[[Path, Any], Any]
    wrong: Callable[[Path, Any, Any], str | None]  # what is wrong with what was read; None: it is right


def same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and raw(a) == raw(b)


def raw(tensor: Tensor) -> bytes:
    r"""Its bytes, row by row: NaNs differ from one another, bytes do not."""
    if tensor.dtype == torch.bool:
        tensor = tensor.view(torch.uint8)  # any byte but 0 is true, and copying makes it 1
    whole = torch.empty(tensor.shape, dtype=tensor.dtype)  # aligned, which a mapped one may not be
    return whole.copy_(tensor).reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


# --- checkpoints --------------------------------------------------------------------------------------------


def states() -> list[object]:
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(4, 6, generator=generator)
    decoder = {
        "first_stage_model.decoder.conv_in.weight": base,
        "first_stage_model.decoder.conv_in.bias": base[0],
    }
    unet = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.randn(8, 4, 3, 3, generator=generator).half()
    }
    views = OrderedDict(a=base, b=base[1:, ::2].T, c=torch.tensor(3), d=torch.empty(0, 3), e=base.bool())
    leftovers = {
        "state_dict": decoder | unet,
        "epoch": 3,
        "score": np.float64(0.5),
        "bytes": b"\xff",
        "lr": [0.1, None],
    }
    return [decoder | unet, views, leftovers, torch.nn.Linear(2, 3).state_dict(keep_vars=True)]


def make_checkpoints(folder: Path) -> list[bytes]:
    found = []
    for state in states():
        buffer = io.BytesIO()
        torch.save(state, buffer)
        found += [buffer.getvalue(), zip_archive(unpacked(buffer.getvalue()))]
    return found


def mutate_checkpoint(rng: Random, originals: list[bytes]) -> Files:
    data = rng.choice(originals)
    pick = rng.random()
    if pick < 0.3:
        return {"x.ckpt": flip(rng, data)}
    entries = unpacked(data)
    if pick < 0.45:
        return {"x.ckpt": change_archive(rng, entries)}
    program = next(entry for entry in entries if entry.name.endswith("data.pkl"))
    program.data = attacks(rng) if pick > 0.998 else change_program(rng, program.data)
    return {"x.ckpt": zip_archive(entries)}


def read_checkpoint(folder: Path, _: Any) -> dict[str, Tensor]:
    path = folder / "x.ckpt"
    if zlib.crc32(path.read_bytes()) % 8 == 0:  # of some, all that `ldm inspect` says
        inspect(path, hash=False).text()
    return read_pickled(path)


class Noted:
    r"""What an independent reader takes for a function, a class, or what one returned."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None: ...


class NotedStorage(Noted):
    pass


def noted_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def noted_encode(text: str, encoding: str) -> bytes:
    assert encoding == "latin1"
    return b""


class ByPickle(pickle.Unpickler):
    r"""Python's own machine, with notes for functions."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if name.endswith("Storage"):
            return type(name, (Noted,), {})
        known = {"_rebuild_tensor_v2": type("Tensor", (Noted,), {}), "_rebuild_parameter": noted_parameter}
        return known.get(name) or {"encode": noted_encode}.get(name) or type("Leftover", (Noted,), {})

    def persistent_load(self, pid: Any) -> Any:
        return NotedStorage(*pid)


KINDS_OF_NUMBERS = {
    "Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "u2", "Long": "i8", "Int": "i4", "Short": "i2",
    "Char": "i1", "Byte": "u1", "Bool": "u1",
}  # fmt: skip


def wrong_checkpoint(folder: Path, read: dict[str, Tensor], _: Any) -> str | None:
    data = (folder / "x.ckpt").read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        records = {}
        for info in opened.infolist():
            name, extra = struct.unpack_from("<2H", data, info.header_offset + 26)
            begin = info.header_offset + 30 + name + extra
            records[info.filename] = data[begin : begin + info.file_size]
    [program] = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
    try:
        loaded = ByPickle(io.BytesIO(records[program]), encoding="utf-8").load()
    except TypeError as error:
        if "unhashable" in str(error):  # such a key names no tensor, and is passed over here
            return None
        raise
    state = loaded.get("state_dict", loaded)
    theirs = {name: t for name, t in state.items() if type(t).__name__ == "Tensor" and isinstance(name, str)}
    if theirs.keys() != read.keys():
        return f"names {sorted(read)} instead of {sorted(theirs)}"
    for name, noted in theirs.items():
        storage, offset, shape, strides = noted.arguments[:4]
        _, kind, record, _, count = storage.arguments
        numbers = np.dtype("<" + KINDS_OF_NUMBERS[kind.__name__.removesuffix("Storage")])
        flat = np.frombuffer(records[program.replace("data.pkl", f"data/{record}")], numbers, count)
        wide = tuple(stride * numbers.itemsize for stride in strides)
        view = (
            np.lib.stride_tricks.as_strided(flat[offset:], shape, wide)
            if math.prod(shape)
            else np.empty(shape, numbers)
        )
        ours = read[name]
        if tuple(ours.shape) != tuple(shape) or raw(ours) != np.ascontiguousarray(view).tobytes():
            return f"other numbers in {name!r}"
    return None


def make_old(folder: Path) -> list[bytes]:
    found = []
    for state in states():
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=False)
        found += [buffer.getvalue(), pickle.dumps({"a": 1}, 4), pickle.dumps([print, "a"], 0)]
    return found


def read_old(folder: Path, _: Any) -> dict[str, Tensor]:
    try:
        globals_of(folder / "x.ckpt")
    except LdmError:
        pass
    return read_file(folder / "x.ckpt")


def nothing_may_be_read(folder: Path, read: Any, _: Any) -> str:
    return "a file in the format before torch 1.6 was opened"


# --- safetensors ---------------------------------------------------------------------------------------------


def make_headers(folder: Path) -> list[bytes]:
    found = []
    tensors = {
        "a": torch.arange(6.0).reshape(2, 3),
        "b.weight": torch.ones(3).half(),
        "c": torch.tensor(7),
        "e": torch.empty(0, 2),
    }
    unet = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.ones(8, 4, 3, 3),
        "cond_stage_model.transformer.x": torch.ones(1),
    }
    for state in (tensors, unet, {"x": torch.ones(2).bfloat16()}):
        for metadata in (None, {"format": "pt", "modelspec.architecture": "stable-diffusion-v1"}):
            write_safetensors(folder / "x.safetensors", state, metadata)
            found.append((folder / "x.safetensors").read_bytes())
    return found


def mutate_header(rng: Random, originals: list[bytes]) -> Files:
    data = rng.choice(originals)
    if rng.random() < 0.4:
        return {"x.safetensors": flip(rng, data)}
    (length,) = struct.unpack_from("<Q", data)
    header, numbers = data[8 : 8 + length], data[8 + length :]
    header = change_json(rng, header.decode())
    if rng.random() < 0.1:
        numbers = flip(rng, numbers)
    size = len(header) + (rng.choice((-1, 1, 8, 2**40, 2**63)) if rng.random() < 0.05 else 0)
    return {"x.safetensors": struct.pack("<Q", max(0, size)) + header + numbers}


def read_safe(folder: Path, _: Any) -> tuple[dict[str, Tensor], Any]:
    path = folder / "x.safetensors"
    if zlib.crc32(path.read_bytes()) % 8 == 0:
        inspect(path, hash=False).text()
    return map_tensors(path), read_header(path).metadata


def wrong_safe(folder: Path, read: Any, _: Any) -> str | None:
    tensors, metadata = read
    data = (folder / "x.safetensors").read_bytes()
    theirs = safetensors.torch.load(data)
    with safetensors.safe_open(folder / "x.safetensors", "pt") as opened:
        if (opened.metadata() or {}) != metadata:
            return "other metadata"
    if theirs.keys() != tensors.keys() or not all(same(theirs[name], tensors[name]) for name in theirs):
        return "other tensors"
    return None


# --- our config, and models ----------------------------------------------------------------------------------


def said(parsed: Any, found: Any) -> bool:
    r"""Whether all that a JSON says stands in what was made of it."""
    if isinstance(parsed, dict):
        return isinstance(found, dict) and all(
            key in found and said(value, found[key]) for key, value in parsed.items()
        )
    if isinstance(parsed, list):
        return len(parsed) == len(found) and all(map(said, parsed, found))
    return parsed == found or (isinstance(found, float) and float(parsed) == found)


def make_config(folder: Path) -> str:
    return SMALL.to_json()


def read_own_config(folder: Path, _: Any) -> Config:
    config = read_config(folder / "config.json")
    assert config is not None
    skeletons(configs_of(config))
    return config


def wrong_config(folder: Path, read: Config, _: Any) -> str | None:
    parsed = json.loads((folder / "config.json").read_bytes())
    return None if said(parsed, asdict(read)) else "another config than its JSON says"


@dataclass(frozen=True)
class Original:
    r"""A model in a folder: its files of text, its config and its tensors."""

    path: str
    files: dict[str, str]
    config: Config
    tensors: dict[str, Tensor]


def flat(found: Gathered) -> dict[str, Tensor]:
    return {f"{part}.{name}": t for part, tensors in found.tensors.items() for name, t in tensors.items()}


def original(folder: Path, path: str, files: list[Path]) -> Original:
    found = gather(folder / path)
    texts = {file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8") for file in files}
    return Original(path, texts, found.config, {name: t.clone() for name, t in flat(found).items()})


def make_own(folder: Path) -> Original:
    write_small_model(folder / "own")
    return original(
        folder, "own", [folder / "own/config.json", *sorted((folder / "own/tokenizer").iterdir())]
    )


def make_diffusers(folder: Path) -> Original:
    export_diffusers(folder)
    files = sorted((folder / "theirs").rglob("*.json")) + sorted((folder / "theirs").rglob("*.txt"))
    return original(folder, "theirs", files)


def export_diffusers(folder: Path) -> None:
    config = FAMILIES["sd2-v"]
    path = folder / "theirs.safetensors"
    write_safetensors(
        path, single_file(config, random_tensors(config)), {TOKENIZER: tokenizer_text(tokenizer(config))}
    )
    export(path, folder / "theirs", "diffusers", prediction="v")


def mutate_texts(rng: Random, base: Original) -> Files:
    name = rng.choice(sorted(base.files))
    change = change_json if name.endswith(".json") else change_text
    return {name: change(rng, base.files[name])}


def read_model(folder: Path, base: Original) -> Gathered:
    return gather(folder / base.path)


def wrong_tensors(read: Gathered, base: Original) -> str | None:
    found = flat(read)
    if found.keys() != base.tensors.keys() or not all(
        same(t, base.tensors[name]) for name, t in found.items()
    ):
        return "other tensors"
    return None


def wrong_own(folder: Path, read: Gathered, base: Original) -> str | None:
    parsed = json.loads((folder / "own/config.json").read_bytes())
    return wrong_tensors(read, base) or (None if said(parsed, asdict(read.config)) else "another config")


# Where the files of a diffusers folder say what we read in them.
THEIRS: dict[tuple[str, str], Callable[[Config], Any]] = {
    ("unet/config.json", "norm_num_groups"): lambda c: c.unet.groups,
    ("vae/config.json", "norm_num_groups"): lambda c: c.vae.groups,
    ("vae/config.json", "scaling_factor"): lambda c: c.vae.scale,
    ("text_encoder/config.json", "num_attention_heads"): lambda c: c.text.heads,
    ("text_encoder/config.json", "hidden_act"): lambda c: c.text.activation,
    ("scheduler/scheduler_config.json", "num_train_timesteps"): lambda c: c.noise.steps,
    ("scheduler/scheduler_config.json", "beta_start"): lambda c: c.noise.beta_start,
    ("scheduler/scheduler_config.json", "beta_end"): lambda c: c.noise.beta_end,
}


def wrong_diffusers(folder: Path, read: Gathered, base: Original) -> str | None:
    scheduler = json.loads((folder / "theirs/scheduler/scheduler_config.json").read_bytes())
    for (name, key), value in THEIRS.items():
        parsed = json.loads((folder / "theirs" / name).read_bytes())
        if scheduler.get("trained_betas") is not None and name.startswith("scheduler"):
            continue
        if parsed.get(key) is not None and parsed[key] != value(read.config):
            return f"{key} is {value(read.config)} instead of {parsed[key]}"
    return wrong_tensors(read, base)


def make_single(folder: Path) -> Original:
    config = FAMILIES["sd1"]
    metadata = {
        TOKENIZER: tokenizer_text(tokenizer(config)),
        CONFIG: config.to_json(),
        "modelspec.prediction_type": "epsilon",
    }
    write_safetensors(folder / "one.safetensors", single_file(config, random_tensors(config)), metadata)
    base = original(folder, "one.safetensors", [])
    return Original(base.path, {**metadata, "": str(folder / "one.safetensors")}, base.config, base.tensors)


def mutate_single(rng: Random, base: Original) -> Files:
    whole = Path(base.files[""])
    backup = whole.with_suffix(".original")
    if not backup.exists():
        shutil.copy(whole, backup)
    data = backup.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header["__metadata__"]
    key = rng.choice(sorted(metadata))
    if key in (CONFIG, TOKENIZER):
        metadata[key] = change_json(rng, metadata[key]).decode(errors="replace")
    else:
        metadata[key] = rng.choice(("v", "v_prediction", "", "x" * 1000, "epsilon", "\0"))
    if rng.random() < 0.2:
        del metadata[key]
    text = json.dumps(header).encode()
    return {base.path: struct.pack("<Q", len(text)) + text + data[8 + length :]}


def wrong_single(folder: Path, read: Gathered, base: Original) -> str | None:
    data = (folder / base.path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    if CONFIG in metadata:
        parsed = json.loads(metadata[CONFIG])
        parsed.get("text", {}).pop("pad", None)  # the tokenizer says it, too, and is followed
        if not said(parsed, asdict(read.config)):
            return "another config than its metadata say"
    if TOKENIZER in metadata:
        merges = [tuple(pair) for pair in json.loads(metadata[TOKENIZER])["merges"]]
        if merges != list(read.tokenizer.merges):
            return "other merges than its metadata say"
    return wrong_tensors(read, base)


YAML = """model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.00085
    linear_end: 0.0120
    timesteps: 1000
    scale_factor: 0.18215
    parameterization: "eps"
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        in_channels: 4
        out_channels: 4
        attention_resolutions: [ 4, 2, 1 ]
        num_heads: 8
        transformer_depth:
        - 1
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenCLIPEmbedder
"""


def make_yaml(folder: Path) -> Original:
    config = FAMILIES["sd1"]
    write_safetensors(
        folder / "two.safetensors",
        single_file(config, random_tensors(config)),
        {TOKENIZER: tokenizer_text(tokenizer(config))},
    )
    (folder / "two.yaml").write_text(YAML)
    return original(folder, "two.safetensors", [folder / "two.yaml"])


def wrong_yaml(folder: Path, read: Gathered, base: Original) -> str | None:
    return wrong_tensors(read, base)


# --- tokenizers and pictures -----------------------------------------------------------------------------------


def make_tokenizer(folder: Path) -> Original:
    tokenizer(FAMILIES["sd1"]).save(folder / "words")
    files = {f"words/{file.name}": file.read_text(encoding="utf-8") for file in (folder / "words").iterdir()}
    return Original("words", files, SMALL, {})


def read_words(folder: Path, _: Any) -> Tokenizer:
    read = Tokenizer.load(folder / "words")
    read("a red dog \u00e9")
    return read


def wrong_words(folder: Path, read: Tokenizer, _: Any) -> str | None:
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
    "tile": False, "compiled": False,
}  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(record: bytes) -> bytes:
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 4)) + chunk(b"IEND", b"")
    size = chunk(b"IHDR", struct.pack(">2I5B", 1, 1, 8, 2, 0, 0, 0))
    return (
        SIGNATURE
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


def mutate_old(rng: Random, base: list[bytes]) -> Files:
    return {"x.ckpt": flip(rng, rng.choice(base))}


def mutate_config(rng: Random, base: str) -> Files:
    return {"config.json": change_json(rng, base)}


def read_png(folder: Path, _: Any) -> Any:
    return read_record(folder / "x.png")


KINDS = (
    Kind("checkpoints (.ckpt)", 370, make_checkpoints, mutate_checkpoint, read_checkpoint, wrong_checkpoint),
    Kind("checkpoints before torch 1.6", 50, make_old, mutate_old, read_old, nothing_may_be_read),
    Kind("safetensors", 265, make_headers, mutate_header, read_safe, wrong_safe),
    Kind("config.json", 110, make_config, mutate_config, read_own_config, wrong_config),
    Kind("tokenizers", 80, make_tokenizer, mutate_texts, read_words, wrong_words),
    Kind("records in PNG files", 80, lambda folder: json.dumps(RECORD), mutate_png, read_png, wrong_record),
    Kind("model folders of ours", 15, make_own, mutate_texts, read_model, wrong_own),
    Kind("model folders of diffusers", 15, make_diffusers, mutate_texts, read_model, wrong_diffusers),
    Kind("metadata of a single file", 10, make_single, mutate_single, read_model, wrong_single),
    Kind("YAML beside a single file", 5, make_yaml, mutate_texts, read_model, wrong_yaml),
)
assert sum(kind.share for kind in KINDS) == 1000
