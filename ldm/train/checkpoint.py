r"""Checkpoints: everything that training needs to resume exactly where it stopped.

A checkpoint is one file, written to a temporary file and renamed over the old one (`ldm/files/read_write.py`), so a
process that is killed while writing leaves the old one intact. Only the steps since the checkpoint are lost. Each
step's random numbers depend on the seed and the step alone, so repeating these steps gives the same weights, bit for
bit on the same machine with the same number of threads.
"""

import hashlib
import json
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ldm.errors import LdmError
from ldm.files.read_write import atomic_path, open_regular
from ldm.train.processes import world_size

Identity = Mapping[str, str | int | float]  # settings and inputs that must not change when a run is resumed
PARTS = {"module", "average", "optimizer", "step", "log", "random", "identity"}


def fingerprint(*inputs: Path | bytes | object) -> str:
    """A hash of 16 hexadecimal digits. An input is a file, bytes, or anything that JSON can represent."""
    digest = hashlib.sha256()
    for item in inputs:
        content = item.read_bytes() if isinstance(item, Path) and item.exists() else item
        if not isinstance(content, bytes):
            content = json.dumps(content, default=_jsonable, sort_keys=True).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:16]


def _jsonable(value: object) -> object:
    return vars(value) if hasattr(value, "__dataclass_fields__") else str(value)


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` and the state of torch's random generators: together the `PARTS` of a run."""
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        random["cuda"] = torch.cuda.get_rng_state()
    with explaining_write_errors(path), atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save({**state, "random": random}, file)


@contextmanager
def explaining_write_errors(path: Path) -> Iterator[None]:
    """Raise `LdmError` if `path` cannot be written, as on a full disk. An existing file is kept."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save replaces the OSError by a RuntimeError
        os_error = next(
            (e for e in (error, error.__context__, error.__cause__) if isinstance(e, OSError)), None
        )
        if os_error is None:
            raise
        raise LdmError(
            f"cannot write {path}: {os_error.strerror or os_error}; free some space and repeat the command with "
            "--resume to continue from the last checkpoint"
        ) from error


def read_checkpoint(path: Path, identity: Identity, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Read what `write_checkpoint` wrote; restore the states of `parts` and of torch's random generators.

    Raises `LdmError` if the file cannot be read, is damaged, belongs to another model, or belongs to a run with another
    `identity`: such a run could be resumed, but nobody could reproduce its weights.
    """
    open_regular(path).close()  # raises `LdmError` for what cannot be opened
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes a zip file but does not verify its checksums
            if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
                raise ValueError("it is compressed; torch never compresses")
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"part {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
        _check_format(state)
    except Exception as error:  # damaged bytes can raise almost any type of error
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise LdmError(
            f"{path} is damaged or from another version ({reason}); start this stage again without --resume"
        ) from error
    _check_identity(path, state["identity"], identity)
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"]["cpu"])
        if torch.cuda.is_available() and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"])
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise LdmError(
            f"{path} belongs to another model ({reason}); give the folder of that model, or start this stage again "
            "without --resume"
        ) from error
    return state


def _check_format(state: Any) -> None:
    """Raise an error unless `state` has the parts that `write_checkpoint` writes, with the right types."""
    if state.keys() != PARTS:
        raise ValueError(f"parts {sorted(map(str, state))}")
    types = dict.fromkeys(PARTS, dict) | {"step": int}
    wrong = [name for name, kind in types.items() if not isinstance(state[name], kind)]
    if wrong or state["step"] < 1:
        raise ValueError(f"unexpected {', '.join(sorted(wrong)) or 'step'}")
    log = state["log"]
    numbers = [*log["recent"], log["seconds"], *(number for line in log["lines"] for number in line)]
    if not all(len(line) == 3 for line in log["lines"]) or not all(type(n) in (int, float) for n in numbers):
        raise ValueError("its log is not a table of numbers")


def _check_identity(path: Path, saved: Identity, current: Identity) -> None:
    differing = [
        f"{name} was {saved.get(name, 'absent')} and is {current.get(name, 'absent')}"
        for name in sorted(saved.keys() | current.keys())
        if saved.get(name) != current.get(name)
    ]
    if differing:
        raise LdmError(
            f"{path} belongs to another run: {'; '.join(differing)}. Give the values of that run, "
            "or start this stage again without --resume"
        )


@contextmanager
def graceful_interrupt() -> Iterator[Callable[[], bool]]:
    """Defer Ctrl-C, so that it never interrupts a step. Yields a function that returns whether it was pressed.

    A second Ctrl-C stops at once, except with several processes: torchrun forwards the signal, so each process
    receives the first one twice.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield lambda: False
        return
    previous = signal.getsignal(signal.SIGINT)

    def handler(number: int, _frame: object) -> None:
        received.append(number)
        if world_size() == 1:
            signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGINT, previous)
