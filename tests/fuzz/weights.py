r"""Files of weights: checkpoints in two formats of torch, and safetensors; and what other readers say of them."""

import io
import json
import math
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldm.checkpoints.formats import read_file
from ldm.checkpoints.inspect import inspect
from ldm.checkpoints.pickle_file import globals_of, read_pickled
from ldm.checkpoints.safetensors_file import map_tensors, read_metadata, write_safetensors
from ldm.errors import LdmError
from tests.checkpoints.handwritten import zip_archive
from tests.fuzz.mutate import (
    attacks,
    change_archive,
    change_json,
    change_program,
    flip,
    unpacked,
)

Files = dict[str, bytes]


def same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and raw(a) == raw(b)


def raw(tensor: Tensor) -> bytes:
    r"""Its bytes, row by row: NaNs differ from one another, bytes do not."""
    if tensor.dtype == torch.bool:
        tensor = tensor.view(torch.uint8)  # any byte but 0 is true, and copying makes it 1
    whole = torch.empty(tensor.shape, dtype=tensor.dtype)  # aligned, which a mapped one may not be
    return whole.copy_(tensor).reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


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


def mutate_old(rng: Random, base: list[bytes]) -> Files:
    return {"x.ckpt": flip(rng, rng.choice(base))}


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
    return map_tensors(path), read_metadata(path)


def wrong_safe(folder: Path, read: Any, _: Any) -> str | None:
    tensors, metadata = read
    header, theirs = read_plainly((folder / "x.safetensors").read_bytes())
    if (header.pop("__metadata__", None) or {}) != metadata:
        return "other metadata"
    if theirs.keys() != tensors.keys():
        return "other names"
    for name, entry in header.items():
        found = tensors[name]
        shape = tuple(int(side) for side in entry["shape"])
        if (SAFE_DTYPES[entry["dtype"]], shape, theirs[name]) != (
            found.dtype,
            tuple(found.shape),
            raw(found),
        ):
            return "other tensors"
    return None


SAFE_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_plainly(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    r"""The header and each tensor's bytes, by the format's description alone: the package reads with a library."""
    (length,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    spans = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    numbers = data[8 + length :]
    return header, {name: numbers[int(begin) : int(end)] for name, (begin, end) in spans.items()}
