r"""Stopping and going on: everything a training needs to continue as if nothing had happened.

A checkpoint is one file, written beside the old one and then renamed over it (`ldm/files.py`): a process killed
while writing leaves the old one. Nothing is lost but the work since; and as each step's draws depend on seed and
step alone, that work comes out the same when it is done again, bit for bit on the same machine and thread count.
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
from ldm.files import atomic_path, open_regular
from ldm.train.processes import world_size

Identity = Mapping[str, str | int | float]  # what must not change between two parts of a run, by name
PARTS = {"module", "average", "optimizer", "step", "log", "random", "identity"}


def fingerprint(*inputs: Path | bytes | object) -> str:
    """16 digits that change when any input does: the bytes of files, bytes, or anything that JSON can say."""
    digest = hashlib.sha256()
    for item in inputs:
        content = item.read_bytes() if isinstance(item, Path) and item.exists() else item
        if not isinstance(content, bytes):
            content = json.dumps(content, default=as_json, sort_keys=True).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:16]


def as_json(value: object) -> object:
    return vars(value) if hasattr(value, "__dataclass_fields__") else str(value)


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write the `PARTS` of a run, and the random state of torch's own generators."""
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        random["cuda"] = torch.cuda.get_rng_state()
    with explaining_write_errors(path), atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save({**state, "random": random}, file)


@contextmanager
def explaining_write_errors(path: Path) -> Iterator[None]:
    """Raises `LdmError` if a file of a run cannot be written, as on a full disk. What was there is there still."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save hides the system's error behind one of its own
        refusal = next(
            (e for e in (error, error.__context__, error.__cause__) if isinstance(e, OSError)), None
        )
        if refusal is None:
            raise
        raise LdmError(
            f"cannot write {path}: {refusal.strerror or refusal}; make room, and the same command with --resume goes "
            "on from the last checkpoint"
        ) from error


def read_checkpoint(path: Path, identity: Identity, parts: Mapping[str, Any]) -> dict[str, Any]:
    """What `write_checkpoint` wrote; `parts` take up their states from it, and torch its random state.

    Raises `LdmError` if the file cannot be read, if it is damaged or of another model, or if it is of a run whose
    `identity` differs: it could be continued, but the weights would be those of no run that anybody can repeat.
    """
    open_regular(path).close()  # raises `LdmError` for what cannot be opened
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes a zip, but does not look at its checksums
            if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
                raise ValueError("it is compressed, which torch does not do")
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"part {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
        _check_format(state)
    except Exception as error:  # there is hardly a type of error that damaged bytes do not lead to
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise LdmError(
            f"{path} is damaged or of another version ({reason}); start this stage anew, without --resume"
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
            f"{path} is of another model ({reason}); give the folder of this one, or start this stage anew, "
            "without --resume"
        ) from error
    return state


def _check_format(state: Any) -> None:
    """Raise `ValueError` unless a state has the parts that `write_checkpoint` gives it, each of its type."""
    if not isinstance(state, dict) or state.keys() != PARTS:
        raise ValueError(
            f"parts {sorted(map(str, state))}" if isinstance(state, dict) else type(state).__name__
        )
    for name in PARTS - {"step"}:
        if not isinstance(state[name], dict):
            raise ValueError(f"{name} is of type {type(state[name]).__name__}")
    if type(state["step"]) is not int or state["step"] < 1:
        raise ValueError(f"step {state['step']!r}")
    log = state["log"]
    if log.keys() != {"lines", "recent", "seconds"}:
        raise ValueError(f"a log of {sorted(map(str, log))}")
    numbers = [*log["recent"], log["seconds"], *(number for line in log["lines"] for number in line)]
    if not all(len(line) == 3 for line in log["lines"]) or not all(type(n) in (int, float) for n in numbers):
        raise ValueError("its log is no table of numbers")


def _check_identity(path: Path, then: Identity, now: Identity) -> None:
    differing = [
        f"{name} was {then.get(name, 'absent')} and is {now.get(name, 'absent')}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    if differing:
        raise LdmError(
            f"{path} is of another run: {'; '.join(differing)}. Give what was given then, "
            "or start this stage anew, without --resume"
        )


@contextmanager
def graceful_interrupt() -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C is only noted, so that a step is never cut in two; the function given says if it was.

    A second Ctrl-C stops at once. (Not with several processes: torchrun passes the first one on, so each hears it
    twice.)
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's business
        yield lambda: False
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, _frame: object) -> None:
        noted.append(number)
        if world_size() == 1:
            signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(noted)
    finally:
        signal.signal(signal.SIGINT, before)
