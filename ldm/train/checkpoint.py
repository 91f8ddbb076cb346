r"""Stopping and going on: everything a training needs to continue as if nothing had happened.

A checkpoint is one file, written beside the old one and then renamed over it (`ldm/files.py`): a process killed
while writing leaves the old one. Nothing is lost but the work since; and as each step's draws depend on seed and
step alone, that work comes out the same when it is done again, bit for bit on the same machine and thread count.
"""

import hashlib
import json
import pickle
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ldm.errors import LdmError
from ldm.files import atomic_path
from ldm.train.processes import world

Identity = Mapping[str, str | int | float]  # what must not change between two parts of a run, by name
PARTS = {"module", "average", "optimizer", "step", "log", "random", "identity"}


def fingerprint(*inputs: Path | bytes | object) -> str:
    """16 digits that change when any input does: the bytes of files, bytes, or anything that JSON can say."""
    digest = hashlib.sha256()
    for item in inputs:
        content = item.read_bytes() if isinstance(item, Path) and item.exists() else item
        if not isinstance(content, bytes):
            content = json.dumps(content, default=vars_or_text, sort_keys=True).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:16]


def vars_or_text(value: object) -> object:
    return vars(value) if hasattr(value, "__dataclass_fields__") else str(value)


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write the `PARTS` of a run, and the random state of torch's own generators."""
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        random["cuda"] = torch.cuda.get_rng_state()
    with atomic_path(path) as temporary:
        torch.save({**state, "random": random}, temporary)


def read_checkpoint(path: Path, identity: Identity) -> dict[str, Any]:
    """What `write_checkpoint` wrote, with the random state put back.

    Raises `LdmError` if the file is damaged, or if it is of a run whose `identity` differs: it could be continued, but
    the weights would be those of no run that anybody can repeat.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes a zip, but does not look at its checksums
            damaged = archive.testzip()
        state = torch.load(path, map_location="cpu", weights_only=True)
        if damaged or state.keys() != PARTS:
            raise ValueError(f"part {damaged}" if damaged else f"parts {sorted(state)}")
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise LdmError(
            f"{path} is damaged or of another version ({error}); start this stage anew, without --resume"
        ) from error
    then = state["identity"]
    differing = [
        f"{name} was {then.get(name, 'absent')} and is {identity.get(name, 'absent')}"
        for name in sorted(then.keys() | identity.keys())
        if then.get(name) != identity.get(name)
    ]
    if differing:
        raise LdmError(
            f"{path} is of another run: {'; '.join(differing)}. Give what was given then, "
            "or start this stage anew, without --resume"
        )
    torch.set_rng_state(state["random"]["cpu"])
    if torch.cuda.is_available() and "cuda" in state["random"]:
        torch.cuda.set_rng_state(state["random"]["cuda"])
    return state


@contextmanager
def polite_stop() -> Iterator[Callable[[], bool]]:
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
        if world() == 1:
            signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(noted)
    finally:
        signal.signal(signal.SIGINT, before)
