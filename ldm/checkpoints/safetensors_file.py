r"""safetensors files: a JSON header, then raw numbers. Opening one runs no code from it.

    8 bytes     the header's length, little-endian
    header      {"unet.bias": {"dtype": "F16", "shape": [320], "data_offsets": [0, 640]}, ...}
    numbers     each tensor's bytes, from its first offset to its second

A tensor is therefore a slice of the file. It is not read but *mapped*: the operating system brings its pages into
memory when they are first used, and may drop them again; a model of 4 GB opens in a tenth of a second.

A header may lie, so the library checks that every tensor fills its slice and that the slices tile the file. Here we
make sure beforehand that it is a regular file with a header of bounded size, and we write files ourselves: one tensor
at a time, converted on the way, where the library would need all of them converted at once.
"""

import json
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ldm.errors import LdmError
from ldm.files.read_write import atomic_path, open_regular, writable

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
LONGEST_HEADER = 16_000_000  # bytes; Stable Diffusion's have a hundred thousand
MOST_TENSORS = 50_000


def read_metadata(path: Path) -> dict[str, str]:
    """The texts that a file's writer put into its header. Raises `LdmError` if the header is damaged or lies."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


def map_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, mapped into memory. Writing to one changes a copy in memory, never the file.

    While they are in use, the file must not be overwritten in place (replacing it, as `atomic_path` does, is fine).
    Raises `LdmError` if the header is damaged or lies.
    """
    with _opened(path) as file:
        names = file.keys()
        if len(names) > MOST_TENSORS:
            raise ValueError(f"it has {len(names):,} tensors; expected at most {MOST_TENSORS:,}")
        tensors = {name: file.get_tensor(name) for name in names}
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            kinds = ", ".join(DTYPES.values())
            raise LdmError(f"{path}: {name[:60]!r} has the type {tensor.dtype}, which is none of {kinds}")
    return tensors


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as the library opens it, its header checked."""
    try:
        with open_regular(path) as file:
            prefix, size = file.read(8), os.fstat(file.fileno()).st_size
        if len(prefix) < 8:
            raise ValueError(f"it is only {len(prefix)} bytes long" if prefix else "it is empty")
        (length,) = struct.unpack("<Q", prefix)
        if length > LONGEST_HEADER:
            raise ValueError(f"it announces a header of {length:,} bytes, so it is not a safetensors file")
        if length > size - 8:
            raise ValueError(f"it ends within its header, after {size:,} bytes: the download was cut short")
        with safe_open(path, framework="pt") as opened:
            yield opened
    except OSError as error:
        raise LdmError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        # (torch raises several of these for absurd shapes.)
        why = str(error).splitlines()[0].removeprefix("Error while deserializing header: ")
        if "not fully covered" in why:
            why = "its tensors and its size do not agree: the download was cut short, or something was added"
        raise LdmError(f"{path} is damaged ({why[:200]}); fetch or train it again") from error


def map_bytes(file: BufferedReader, path: Path) -> Tensor:
    """The bytes of an open file, mapped into memory; they stay when it is closed."""
    try:
        # ACCESS_COPY: what is written to them is not written to the file.
        return torch.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), dtype=torch.uint8)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        why = getattr(error, "strerror", None) or error
        raise LdmError(f"cannot map {path} into memory: {why}") from error


def write_safetensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write tensors, as they are or as `dtype`, one after another: memory never holds a second copy of the model.

    Raises `LdmError` if the disk is full or cannot be written to; then nothing is left behind.
    """
    fields: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    kinds = {name: dtype or tensor.dtype for name, tensor in tensors.items()}
    # The widest numbers first: then each tensor starts at a multiple of its numbers' size.
    order = sorted(tensors, key=lambda name: (-kinds[name].itemsize, name))
    end = 0
    for name in order:
        begin, end = end, end + tensors[name].numel() * kinds[name].itemsize
        shape = list(tensors[name].shape)
        fields[name] = {"dtype": DTYPES[kinds[name]], "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(fields, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with writable(path), atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for name in order:
            numbers = tensors[name].detach().to("cpu", kinds[name]).contiguous()
            file.write(numbers.reshape(-1).view(torch.uint8).numpy().data)
