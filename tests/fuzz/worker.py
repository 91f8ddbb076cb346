r"""One process that runs cases one after another, and says before each which it is and after each how it ended.

    python -m tests.fuzz.worker SEED BEGIN END

Lines on stdout: the number of a case that begins; then [number, kind, outcome, seconds, megabytes, detail] in JSON, the
outcome "error" (ours), "right", "wrong" or "broke". Time is the processor's, memory the peak above the start.
"""

import json
import logging
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

import torch

from ldm.errors import LdmError
from tests.fuzz.kinds import KINDS, Kind

MOST_MEMORY = 1 << 30  # bytes above the start
MOST_SECONDS = 2.0


def kind_of(number: int) -> Kind:
    r"""Spread evenly: any run of a thousand cases has each kind's share."""
    place = number * 387 % 1000  # 387 and 1000 have no common divisor
    for kind in KINDS:
        if place < kind.share:
            return kind
        place -= kind.share
    raise AssertionError


class Bench:
    r"""A folder with the originals of the kinds that were asked for so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, tuple[Path, Any]] = {}

    def run(self, seed: int, number: int) -> tuple[str, str, float, float, str]:
        r"""One case: kind, outcome, seconds, megabytes, detail."""
        kind = kind_of(number)
        if kind.name not in self.made:
            place = self.folder / str(len(self.made))
            place.mkdir()
            self.made[kind.name] = place, kind.make(place)
        place, base = self.made[kind.name]
        changed = kind.mutate(Random(f"{seed}, {number}"), base)
        before = {name: (place / name).read_bytes() if (place / name).exists() else None for name in changed}
        try:
            for name, data in changed.items():
                (place / name).write_bytes(data)
            return kind.name, *judged(kind, place, base)
        finally:
            for name, data in before.items():
                if data is None:
                    (place / name).unlink()
                else:
                    (place / name).write_bytes(data)


def judged(kind: Kind, place: Path, base: Any) -> tuple[str, float, float, str]:
    memory, began = start_measuring(), time.process_time()
    read = None
    outcome, detail = "read", ""
    try:
        read = kind.read(place, base)
    except LdmError as error:
        outcome, detail = "error", str(error).replace(str(place), "")
    except BaseException as error:
        outcome, detail = "broke", f"{type(error).__name__}: {str(error)[:200]} {where(error)}"
    seconds, megabytes = time.process_time() - began, peak_since(memory)
    if outcome == "read":
        try:
            wrong = kind.wrong(place, read, base)
        except Exception as error:
            wrong = f"the other reader refuses it: {type(error).__name__}: {str(error)[:200]}"
        outcome, detail = ("wrong", wrong) if wrong else ("right", "")
    if seconds > MOST_SECONDS:
        outcome, detail = "broke", f"{seconds:.1f} s; {outcome}: {detail}"
    if megabytes > MOST_MEMORY >> 20:
        outcome, detail = "broke", f"{megabytes:.0f} MB; {outcome}: {detail}"
    return outcome, seconds, megabytes, detail[:300]


def where(error: BaseException) -> str:
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if f"{os.sep}ldm{os.sep}" in frame.filename
    ]
    return f"at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


def start_measuring() -> int:
    r"""Memory in use, in kB; the system's note of the peak begins anew here. (Linux; elsewhere it never goes down.)"""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return status("VmRSS")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_since(before: int) -> float:
    try:
        return max(0.0, (status("VmHWM") - before) / 1024)
    except OSError:
        return max(0.0, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise OSError(key)


def main(seed: int, begin: int, end: int) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for number in range(begin, end):
            if number == begin:
                for first in range(1000):  # the originals first, so that no case is charged with them
                    kind = kind_of(first)
                    if kind.name not in bench.made:
                        bench.run(seed, first)
                limit_memory()
            print(number, flush=True)
            print(json.dumps([number, *bench.run(seed, number)]), flush=True)


def limit_memory() -> None:
    try:
        now = status("VmSize") << 10
    except OSError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (now + MOST_MEMORY + (64 << 20),) * 2)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
