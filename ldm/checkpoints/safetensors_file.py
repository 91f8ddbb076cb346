r"""safetensors files: a JSON header, then raw numbers. To open one runs no code from it.

    8 bytes     the header's length, little-endian
    header      {"unet.bias": {"dtype": "F16", "shape": [320], "data_offsets": [0, 640]}, ...}
    numbers     each tensor's bytes, from its first offset to its second

So a tensor is a slice of the file. It is not read but *mapped*: the operating system brings its pages into memory
when they are first used, and may drop them again; a model of 4 GB is open in a tenth of a second.

A header may lie, so nothing in it is believed: every tensor must fill its slice, and the slices must tile the file.
"""

import json
import math
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.errors import LdmError, shown
from ldm.files.read_write import atomic_path, open_regular

DTYPES = {
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
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LONGEST_HEADER = 16_000_000  # bytes; Stable Diffusion's are of a hundred thousand
MOST_TENSORS = 50_000
MOST_AXES = 8


@dataclass(frozen=True)
class Entry:
    """One tensor in a file, unread."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int  # in bytes from the start of the file
    end: int


@dataclass(frozen=True)
class Header:
    entries: dict[str, Entry]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """What is in the file, without reading a tensor. Raises `LdmError` if the header is damaged or lies."""
    with open_regular(path) as file:
        return _header(file, path)


def _header(file: BufferedReader, path: Path) -> Header:
    try:
        return parse_header(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise LdmError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise LdmError(f"{path} is damaged ({error}); fetch or train it again") from error


def parse_header(file: BufferedIOBase, size: int) -> Header:
    """The header of a safetensors file of `size` bytes. Raises `ValueError` that says what is wrong with it."""
    prefix = file.read(8)
    if len(prefix) < 8:
        raise ValueError(f"it is only {len(prefix)} bytes long" if prefix else "it is empty")
    (length,) = struct.unpack("<Q", prefix)
    if length > LONGEST_HEADER:
        raise ValueError(f"it announces a header of {length:,} bytes, so it is no safetensors file")
    if length > size - 8:
        raise ValueError(f"it ends within its header, after {size:,} bytes: the download was cut short")
    try:
        fields = json.loads(file.read(length).decode(), object_pairs_hook=_without_repetition)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(fields, dict):
        raise ValueError("its header is no table of tensors")
    if len(fields) > MOST_TENSORS:
        raise ValueError(f"it has {len(fields):,} tensors; expected at most {MOST_TENSORS:,}")
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its metadata is no table of texts")
    "".join(
        [*fields, *metadata, *metadata.values()]
    ).encode()  # half of a UTF-16 pair is no text: a ValueError
    entries = {name: _parse_entry(name, field, 8 + length) for name, field in fields.items()}
    _check_tiling(entries, 8 + length, size)
    return Header(entries, metadata)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("its header has one name twice")
    return table


def _whole_numbers(value: Any, most: int) -> tuple[int, ...]:
    good = isinstance(value, list) and len(value) <= most
    if not good or not all(type(n) is int and 0 <= n < 2**63 for n in value):
        raise ValueError(f"its header has {shown(value)} where sizes or offsets are expected")
    return tuple(value)


def _parse_entry(name: str, field: Any, start: int) -> Entry:
    if not isinstance(field, dict) or field.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"its header describes {name[:60]!r} by {shown(field)}")
    dtype, shape = field["dtype"], _whole_numbers(field["shape"], MOST_AXES)
    offsets = _whole_numbers(field["data_offsets"], 2)
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{name[:60]!r} has the type {shown(dtype)}, which is none of {', '.join(DTYPES)}")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{name[:60]!r} lies at {list(offsets)}, which is no slice")
    # Of an empty tensor, too, torch multiplies the sides that are not 0.
    numbers, product = math.prod(shape), math.prod(side or 1 for side in shape)
    if numbers * DTYPES[dtype].itemsize != offsets[1] - offsets[0] or product >= 2**60:
        raise ValueError(f"{name[:60]!r} has the shape {list(shape)} and the offsets {list(offsets)}")
    if (
        math.prod(side or 1 for side in shape) >= 2**62
    ):  # of an empty tensor, too, torch multiplies the other sides
        raise ValueError(f"{name[:60]!r} has the shape {list(shape)}")
    return Entry(DTYPES[dtype], shape, start + offsets[0], start + offsets[1])


def _check_tiling(entries: dict[str, Entry], start: int, size: int) -> None:
    """The slices must follow one another from the header to the file's end, without overlap and without gap."""
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != start:
            what = "overlaps the tensor before it" if entry.begin < start else "follows a gap"
            raise ValueError(f"{name[:60]!r} {what}")
        start = entry.end
    if start > size:
        raise ValueError(f"it has {size:,} bytes of {start:,}: the download was cut short")
    if start < size:
        raise ValueError(f"it has {size - start:,} bytes that belong to no tensor")


def map_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, mapped into memory. Writing to one changes a copy in memory, never the file.

    While they are in use the file must not be written in place (to replace it, as `atomic_path` does, is fine).
    Raises `LdmError` if the header is damaged or lies.
    """
    with open_regular(path) as file:
        entries = _header(file, path).entries
        whole = map_bytes(file, path)
    return {name: _slice(whole, entry) for name, entry in entries.items()}


def map_bytes(file: BufferedReader, path: Path) -> Tensor:
    """The bytes of an open file of that path, mapped into memory; they stay when it is closed."""
    try:
        # ACCESS_COPY: what is written to them is not written to the file.
        return torch.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), dtype=torch.uint8)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise LdmError(
            f"cannot map {path} into memory: {getattr(error, 'strerror', None) or error}"
        ) from error


def _slice(whole: Tensor, entry: Entry) -> Tensor:
    if entry.begin % entry.dtype.itemsize == 0:
        return whole[entry.begin : entry.end].view(entry.dtype).reshape(entry.shape)
    # The first writers of the format did not see to it that numbers start at a multiple of their size. A view of
    # such numbers torch does not make, but a storage may begin anywhere.
    storage = whole.untyped_storage()[entry.begin : entry.end]
    strides = torch.empty(entry.shape, device="meta").stride()
    return torch.empty(0, dtype=entry.dtype, device="cpu").set_(storage, 0, entry.shape, strides)


def write_safetensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write tensors, as they are or as `dtype`, one after another: no second copy of the model is made in memory.

    Raises `LdmError` if the disk is full or cannot be written to; then nothing is left behind.
    """
    fields: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    kinds = {name: dtype or tensor.dtype for name, tensor in tensors.items()}
    # The widest numbers first: then each starts at a multiple of its size.
    order = sorted(tensors, key=lambda name: (-kinds[name].itemsize, name))
    end = 0
    for name in order:
        begin, end = end, end + tensors[name].numel() * kinds[name].itemsize
        shape = list(tensors[name].shape)
        fields[name] = {"dtype": NAMES[kinds[name]], "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(fields, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for name in order:
                numbers = tensors[name].detach().to("cpu", kinds[name]).contiguous()
                file.write(numbers.reshape(-1).view(torch.uint8).numpy().data)
    except OSError as error:
        raise LdmError(
            f"cannot write {path}: {error.strerror or error}; make room or give another place"
        ) from error
