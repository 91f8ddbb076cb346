r"""`.ckpt` and `.bin` files: a zip archive with a *pickle* inside, which is a program.

    archive/data.pkl     builds the names and the shapes, by calling functions that it asks for by name ("globals")
    archive/data/0, ...  the numbers

A pickle may ask for any function of any package, `os.system` included, and opening it the ordinary way runs what it
asks for. So:

1. its instructions are *listed*, not run, and every global gets a verdict: one that builds tensors, a harmless
   leftover of training, or refused;
2. only if none is refused does torch load it, with `weights_only=True`: an interpreter of a handful of instructions
   that looks names up in a list and imports nothing. The leftovers are in that list under one class of ours that
   does nothing at all. There is no way around this, not even behind a flag.

The original code of Stable Diffusion was a package named `ldm`, and so is this one: a pickle that asks for `ldm.*`
would reach into ours. It is refused like everything else that is not listed.
"""

import io
import pickletools
import zipfile
from collections import deque
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.errors import LdmError

LARGEST_PICKLE = 16_000_000  # bytes; the program alone, without the numbers

TENSORS = "builds tensors"
LEFTOVER = "harmless leftover of training; left out"
REFUSED = "REFUSED"

VERDICTS = {
    "collections.OrderedDict": TENSORS,
    "torch._utils._rebuild_tensor_v2": TENSORS,
    "torch._utils._rebuild_parameter": TENSORS,
    "_codecs.encode": TENSORS,  # how the second protocol writes bytes
    **{
        f"torch.{kind}Storage": TENSORS
        for kind in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
    },
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint": LEFTOVER,
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping": LEFTOVER,
    "numpy.core.multiarray.scalar": LEFTOVER,  # numpy 1
    "numpy._core.multiarray.scalar": LEFTOVER,  # numpy 2
    "numpy.dtype": LEFTOVER,
}


class Leftover:
    """Takes the place of what a training run left in its checkpoint: accepts anything, and does nothing."""

    def __init__(self, *arguments: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def globals_of(path: Path) -> dict[str, str]:
    """Every global that the pickle in a file asks for, with a verdict. None of its instructions is run.

    Raises `LdmError` for an archive that is no checkpoint, or cannot be read.
    """
    with open(path, "rb") as file:
        if file.read(1) == b"\x80":  # a bare pickle, as torch wrote them before version 1.6
            file.seek(0)
            data = file.read(LARGEST_PICKLE)
        else:
            data = _program(path)
    return {name: VERDICTS.get(name, REFUSED) for name in list_globals(data)}


def _program(path: Path) -> bytes:
    """The pickle in an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            programs = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(programs) != 1 or any(name.endswith("/constants.pkl") for name in names):
                raise LdmError(
                    f"{path} is a zip archive but no checkpoint: of {len(names)} files, {len(programs)} are a data.pkl "
                    "in a folder; expected one. Give the file itself, unpacked if it came in an archive"
                )
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise LdmError(
                    f"{path} is compressed; torch writes its archives plain: fetch the original file"
                )
            if archive.getinfo(programs[0]).file_size > LARGEST_PICKLE:
                raise LdmError(
                    f"{path} has a pickle of over {LARGEST_PICKLE:,} bytes; expected a checkpoint's"
                )
            return archive.read(programs[0])
    except LdmError:
        raise
    except (
        Exception
    ) as error:  # a damaged archive may fail in any way: BadZipFile, struct.error, UnicodeError...
        raise LdmError(f"{path} is damaged ({str(error) or type(error).__name__}); fetch it again") from error


def list_globals(program: bytes) -> list[str]:
    """The names that a pickle asks for, each once, in their order; nothing is run.

    Protocol 4 takes module and name from its stack. They are followed through its memo as far as that goes with
    reading alone, and shown for the reader's sake: torch does not write that protocol, and all of it is refused.
    """
    names: dict[str, None] = {}
    texts: deque[str] = deque(["?", "?"], maxlen=2)  # the last two that were pushed
    memo: dict[int, str] = {}
    stream = io.BytesIO(program)
    try:
        while True:
            for opcode, argument, _ in pickletools.genops(stream):
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
            if program[stream.tell() : stream.tell() + 1] != b"\x80":
                break  # old files hold several pickles, one after another; now the numbers follow
    except Exception:  # damaged: what it asks for up to there is listed, and torch will refuse the rest
        pass
    return list(names)


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.ckpt` or `.bin` file, mapped into memory, under their names in it.

    Raises `LdmError` that names what is refused, or says what is damaged.
    """
    found = globals_of(path)
    refused = [name for name, verdict in found.items() if verdict == REFUSED]
    if refused:
        raise LdmError(
            f"{path} asks to run {', '.join(refused[:10])}{' ...' * (len(refused) > 10)}: refused, and nothing was "
            "run. A checkpoint needs none of these; take the .safetensors file of the same model"
        )
    if not zipfile.is_zipfile(path):
        raise LdmError(
            f"{path} is in the format of torch before version 1.6, which cannot be opened safely; take the "
            ".safetensors file of the same model"
        )
    if path.suffix.lower() == ".safetensors":  # torch would go by the name
        raise LdmError(f"{path} is a pickle under the name of another format; rename it to end in .ckpt")
    leftovers: list[Any] = [(Leftover, name) for name, verdict in VERDICTS.items() if verdict == LEFTOVER]
    try:
        with torch.serialization.safe_globals(leftovers):
            loaded = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # a damaged pickle may fail in any way; none of them is a bug of ours
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise LdmError(f"{path} is damaged ({reason}); fetch it again") from error
    return _tensors(loaded, path)


def _tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    """What lies under "state_dict", or, where there is no such thing, all."""
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict):
        state = {}
    tensors = {
        name: t.detach() for name, t in state.items() if isinstance(name, str) and isinstance(t, Tensor)
    }
    odd = [name for name, tensor in tensors.items() if tensor.layout != torch.strided or tensor.is_quantized]
    if odd or not tensors:
        what = f"a tensor that is not dense, {odd[0]}" if odd else "no tensors with names"
        raise LdmError(f"{path} has {what}; expected the weights of a model")
    return tensors
