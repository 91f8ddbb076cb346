r"""`.ckpt` and `.bin` files: a zip archive with a *pickle* inside, which is a program.

    archive/data.pkl     builds the names and the shapes, by calling functions that it asks for by name ("globals")
    archive/data/0, ...  the numbers

A pickle may ask for any function of any package, `os.system` included, and opening it the ordinary way runs what it
asks for. So:

1. its instructions are *listed*, not run, and every global gets a verdict: one that builds tensors, a harmless
   leftover of training, or refused;
2. only if none is refused is it run, on a machine of our own (`ldm.checkpoints.unpickle`) that calls nothing: it
   records which part of the archive each tensor is, and its shape. No flag gets around this.

The file is opened once, and what was checked is, byte for byte, what is used: no other reader of zip or of pickles
takes part. Every tensor must lie within its record, and all of them together may not claim much more than the file has.

The original code of Stable Diffusion was a package named `ldm`, and so is this one: a pickle that asks for `ldm.*`
would reach into ours. It is refused like everything else that is not listed.
"""

import io
import pickletools
import zlib
from collections import deque
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.checkpoints.archive import Record, read_directory
from ldm.checkpoints.foreign import INVERSION, foreign
from ldm.checkpoints.safetensors_file import MOST_TENSORS, map_bytes
from ldm.checkpoints.unpickle import CALLS, DTYPES, LEFTOVERS, MOST_STEPS, Parameters, View, run
from ldm.errors import LdmError, some
from ldm.files.read_write import open_regular

LARGEST_PICKLE = 16_000_000  # bytes; the program alone, without the numbers
# Two names may share their numbers (an average that still equals the live weights), so that more is claimed than is
# there: at most this many times the file, and any small amount.
MOST_SHARED, SMALL = 4, 1 << 26
# The keys under which training programs keep the tensors, in turn: some nest them.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "params", "string_to_param")

TENSORS = "builds tensors"
LEFTOVER = "harmless leftover of training; left out"
REFUSED = "REFUSED"

VERDICTS = dict.fromkeys((*CALLS, *DTYPES), TENSORS) | dict.fromkeys(LEFTOVERS, LEFTOVER)


def globals_of(path: Path) -> dict[str, str]:
    """Every global that the pickle in a file asks for, with a verdict. None of its instructions is run.

    Raises `LdmError` for an archive that is not a checkpoint, or cannot be read.
    """
    program, _ = _program(path)
    return {name: VERDICTS.get(name, REFUSED) for name in list_globals(program)}


# Its bytes, the folder that its pickle is in, and all records.
Archive = tuple[Tensor, str, dict[str, Record]]


def _program(path: Path) -> tuple[bytes, Archive | None]:
    """The pickle in a file, and the archive around it; None if it is a bare pickle, as before torch 1.6."""
    with open_regular(path) as file:
        if file.read(1) == b"\x80":
            file.seek(0)
            return file.read(LARGEST_PICKLE), None
        data = map_bytes(file, path)
    view = data.numpy().data
    try:
        records = read_directory(view)
    except ValueError as error:
        raise LdmError(f"{path} is damaged ({error}); fetch it again") from error
    programs = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(programs) != 1 or any(name.endswith("/constants.pkl") for name in records):
        raise LdmError(
            f"{path} is a zip archive but no checkpoint: of {len(records)} files, {len(programs)} are a data.pkl "
            "in a folder; expected one. Give the file itself, unpacked if it came in an archive"
        )
    if not all(record.plain for record in records.values()):
        raise LdmError(f"{path} is compressed; torch writes its archives plain: fetch the original file")
    record = records[programs[0]]
    if record.end - record.begin > LARGEST_PICKLE:
        raise LdmError(f"{path} has a pickle of over {LARGEST_PICKLE:,} bytes; expected a checkpoint's")
    program = bytes(view[record.begin : record.end])
    if zlib.crc32(program) != record.crc32:
        raise LdmError(f"{path} is damaged (its pickle is not the one that was written); fetch it again")
    folder = programs[0].removesuffix("data.pkl")
    order = records.get(folder + "byteorder")
    if order and bytes(view[order.begin : order.end]) != b"little":
        raise LdmError(f"{path} is from a machine of another byte order; save it again on one like this")
    return program, (data, folder, records)


def list_globals(program: bytes) -> list[str]:
    """The names that a pickle asks for, each once, in their order; nothing is run.

    Protocol 4 takes module and name from its stack. They are followed through its memo as far as reading alone can
    follow, and only for display: torch does not write that protocol, and all of it is refused.
    """
    names: dict[str, None] = {}
    texts: deque[str] = deque(["?", "?"], maxlen=2)  # the last two that were pushed
    memo: dict[int, str] = {}
    stream = io.BytesIO(program)
    steps = 0
    try:
        while True:
            for opcode, argument, _ in pickletools.genops(stream):
                if (steps := steps + 1) > MOST_STEPS:
                    break  # `run` would not go on either
                match opcode.name:
                    case "GLOBAL" | "INST":
                        names[str(argument).replace(" ", ".", 1)] = None
                    case "STACK_GLOBAL":
                        names[f"{texts[0]}.{texts[1]} (protocol 4)"] = None
                    case "EXT1" | "EXT2" | "EXT4":
                        names[f"extension {argument}"] = None
                    case "MEMOIZE":
                        memo[len(memo)] = texts[-1]
                    case "PUT" | "BINPUT" | "LONG_BINPUT":
                        memo[int(str(argument))] = texts[-1]
                    case "GET" | "BINGET" | "LONG_BINGET":
                        texts.append(memo.get(int(str(argument)), "?"))
                    case _ if isinstance(argument, str):
                        texts.append(argument)
            if steps > MOST_STEPS or program[stream.tell() : stream.tell() + 1] != b"\x80":
                break  # old files hold several pickles, one after another; now the numbers follow
    except Exception:  # damaged: what it asks for up to there is listed, and `run` will refuse the rest
        pass
    return list(names)


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.ckpt` or `.bin` file, mapped into memory, under their names in it.

    Raises `LdmError` that names what is refused, or says what is damaged.
    """
    program, archive = _program(path)
    refused = [name[:100] for name in list_globals(program) if name not in VERDICTS]
    if refused:
        what = f" It looks like {INVERSION}." if b"string_to_param" in program else ""
        raise LdmError(
            f"{path} asks to run {some(refused)}: refused, and nothing was "
            f"run. A checkpoint needs none of these; take the .safetensors file of the same model.{what}"
        )
    if archive is None:
        raise LdmError(
            f"{path} is in the format of torch before version 1.6, which cannot be opened safely; take the "
            ".safetensors file of the same model"
        )
    if path.suffix.lower() == ".safetensors":
        raise LdmError(f"{path} is a pickle under the name of another format; rename it to end in .ckpt")
    try:
        loaded = run(program)
        views = _views(loaded)
    except ValueError as error:
        raise LdmError(f"{path} is damaged ({str(error)[:200]}); fetch it again") from error
    if not views:
        kind = foreign(loaded) if isinstance(loaded, dict) else None
        found = f"is {kind}" if kind else "has no tensors with names"
        raise LdmError(f"{path} {found}; expected the weights of a model")
    data, folder, records = archive
    tensors = {
        name: _tensor(data, view, records.get(f"{folder}data/{view.storage.record}"), path)
        for name, view in views.items()
    }
    claimed = sum(tensor.nbytes for tensor in tensors.values())
    if claimed > MOST_SHARED * len(data) + SMALL:
        raise LdmError(
            f"{path} has {len(data):,} bytes, and its tensors claim {claimed:,}: they share their numbers, as no "
            "model's do; take the .safetensors file of the same model"
        )
    return tensors


def _views(loaded: Any) -> dict[str, View]:
    """The tensors under "state_dict", or a name that others give it; where there is no such thing, all."""
    for key in ("state_dict", *WRAPPERS):
        inner = loaded.get(key) if isinstance(loaded, dict) else None
        inner = inner.inside if isinstance(inner, Parameters) else inner
        if isinstance(inner, dict):
            loaded = inner
    table = loaded if isinstance(loaded, dict) else {}
    views = {name: view for name, view in table.items() if isinstance(view, View)}
    if len(views) > MOST_TENSORS:
        raise ValueError(f"it has {len(views):,} tensors; expected at most {MOST_TENSORS:,}")
    return views


def _tensor(data: Tensor, view: View, record: Record | None, path: Path) -> Tensor:
    """A tensor out of its record, without a copy."""
    storage = view.storage
    size = storage.count * storage.dtype.itemsize
    if record is None or size > record.end - record.begin:
        there = "is missing" if record is None else f"has {record.end - record.begin:,} bytes of {size:,}"
        raise LdmError(f"{path} is damaged (its record {storage.record[:60]!r} {there}); fetch it again")
    numbers = data.untyped_storage()[record.begin : record.begin + size]
    return torch.empty(0, dtype=storage.dtype, device="cpu").set_(
        numbers, view.offset, view.shape, view.strides
    )
