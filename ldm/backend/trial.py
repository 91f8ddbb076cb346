r"""Two implementations that compute the same: which is faster on this machine, found out by trying both.

Which one wins depends on the processor, the libraries and their versions, and no list of processors is ever complete:
two with the same name and the same instructions can differ by a factor of two. So each optimisation that may lose comes
with a `Trial`: a small example, computed both ways in turns before the first use. That takes a few tenths of a second.
The result is kept in `$XDG_CACHE_HOME/ldm/trials.json`, usually in ~/.cache, under the machine and the version of
torch; the file can be deleted at any time. `ldm bench --choices` prints it.

With `LDM_TRIALS=off` in the environment nothing is tried, and the plain implementation is used everywhere.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from ldm.backend.cpu import cpu_identity
from ldm.errors import LdmError
from ldm.files.read_write import LARGEST_TEXT, atomic_path, read_json

ROUNDS = 3  # of each implementation, in turns; medians are compared
CLEARLY = 0.97  # the ratio of times below which the faster implementation is used: the plain one wins a draw

_lock = threading.RLock()  # the work of one trial may depend on another
_ratios: dict[
    str, float
] = {}  # name of a trial -> the time of the faster implementation over that of the plain one


@dataclass(frozen=True)
class Trial:
    """An example, computed by both implementations. Each of the two functions returns a function to be timed."""

    name: str
    plain: Callable[[], Callable[[], object]]
    faster: Callable[[], Callable[[], object]]


def wins(trial: Trial) -> bool:
    """Whether the implementation that is meant to be faster is; tried at most once for each machine and version."""
    if os.environ.get("LDM_TRIALS") == "off":
        return False
    with _lock:
        if not _ratios:
            _ratios.update(remembered())
        if trial.name not in _ratios:
            _ratios[trial.name] = ratio(trial)
            remember(_ratios)
        return _ratios[trial.name] < CLEARLY


@torch.no_grad()
def ratio(trial: Trial) -> float:
    """The median time of the faster implementation over that of the plain one, in alternating rounds."""
    works = trial.faster(), trial.plain()
    times: tuple[list[float], list[float]] = ([], [])
    for work in works:
        work()  # the first time, memory and kernels are made ready
    for _ in range(ROUNDS):
        for work, found in zip(works, times, strict=True):
            begin = time.perf_counter()
            work()
            found.append(time.perf_counter() - begin)
    return median(times[0]) / median(times[1])


def report(trials: Iterable[Trial]) -> str:
    """A line for each trial: its name, the ratio of times, and which implementation is used. Makes those not made."""
    lines = [machine_key()]
    for trial in trials:
        won = wins(trial)
        found = f"{_ratios[trial.name]:.2f} of the plain one's time" if trial.name in _ratios else "not tried"
        lines.append(f"  {trial.name}: {found}, {'used' if won else 'not used'}")
    return "\n".join([*lines, f"kept in {trials_file()}; LDM_TRIALS=off uses none"]) + "\n"


def machine_key() -> str:
    """What the result of a trial depends on: the processor, the threads, and torch's version and build."""
    build = hashlib.sha256(torch.__config__.show().encode()).hexdigest()[:8]
    return f"{cpu_identity()}, {torch.get_num_threads()} threads, torch {torch.__version__} {build}"


def trials_file() -> Path:
    """Where results are kept. It can be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "ldm" / "trials.json"


def remembered() -> dict[str, float]:
    """The ratios kept for this machine; none if there is no file, or one that we did not write."""
    found = _read().get(machine_key())
    if not isinstance(found, dict):
        return {}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def remember(ratios: dict[str, float]) -> None:
    """Keep the ratios for this machine, beside those of others."""
    try:
        with atomic_path(trials_file()) as temporary:
            temporary.write_text(json.dumps(_read() | {machine_key(): ratios}, indent=1), encoding="utf-8")
    except OSError:
        pass  # not writable: they are tried again next time


def _read() -> dict[str, object]:
    try:
        return dict(read_json(trials_file(), LARGEST_TEXT))
    except (LdmError, TypeError, ValueError):  # missing, or damaged and replaced
        return {}
