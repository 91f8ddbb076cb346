r"""Runs chosen tests again and again, each time with one file of the package changed; `ldm exercise check` talks to it.

    python tests/session.py        (in a copy of the repository: the file is really changed, and put back)

One line of JSON comes in, {"file": ..., "source": ..., "tests": [...]}, and one goes out: how many tests passed, and
what became of the others. Each run has a process of its own, for a package cannot be imported twice into one. Importing
torch takes seconds, so where the system can (Linux), that process is a fork of this one, which has done it already.
"""

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import beartype  # noqa: F401  # these too are imported once, for all forks
import einops  # noqa: F401
import hypothesis  # noqa: F401
import jaxtyping  # noqa: F401
import numpy as np
import pytest
import torch
from torch import Tensor

SHOWN = 4  # numbers of a tensor; of a larger one, the place of the largest difference


def number(value: float) -> str:
    r"""Five digits, and nothing of rounding: what is as good as zero is 0."""
    return "0" if abs(value) < 1e-9 else f"{value:.5g}"


def shown(value: object) -> str:
    r"""A value as a learner wants to see it."""
    if isinstance(value, (Tensor, np.ndarray)):
        array = np.asarray(
            value.detach().double() if isinstance(value, Tensor) and value.is_floating_point() else value
        )
        if array.size > SHOWN:
            return f"shape {tuple(array.shape)}"
        return " ".join(shown(x) for x in array.flatten().tolist()) or "nothing"
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, (int, float, np.number)):
        return number(float(value)) if math.isfinite(value) else str(value)
    if isinstance(value, (list, tuple)) and value and len(str(value)) < 400:
        return f"({', '.join(map(shown, value))})"
    if hasattr(value, "expected"):  # pytest.approx
        return shown(value.expected)
    text = re.sub(r" at 0x[0-9a-f]+", "", str(value))
    return text if len(text) < 200 else text[:200] + "..."


def difference(got: object, expected: object) -> str:
    r"""What was got and what was expected, in a line; of large tensors, where they differ most."""
    if isinstance(got, (list, tuple)) and isinstance(expected, (list, tuple)) and len(got) == len(expected):
        pairs = [
            pair
            for pair in zip(got, expected)
            if isinstance(pair[0], (Tensor, np.ndarray)) and not equal(*pair)
        ]
        if pairs:
            return difference(*pairs[0])
    a, b = numbers(got), numbers(expected)
    if a is None or b is None:
        return f"got {shown(got)}, expected {shown(expected)}"
    if a.shape != b.shape and a.size > 1 and b.size > 1:
        return f"got shape {tuple(a.shape)}, expected shape {tuple(b.shape)}"
    if a.size <= SHOWN or a.shape != b.shape:
        return f"got {shown(a)}, expected {shown(b)}"
    gap = np.abs(a - b)
    worst = int(np.argmax(np.where(np.isnan(gap), np.inf, gap)))
    place = ", ".join(str(i) for i in np.unravel_index(worst, a.shape))
    return f"got {shown(a.flat[worst])}, expected {shown(b.flat[worst])} at [{place}]"


def equal(got: object, expected: object) -> bool:
    a, b = numbers(got), numbers(expected)
    return (
        a is not None and b is not None and a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=1e-12))
    )


def numbers(value: object) -> np.ndarray | None:
    r"""A tensor or an array of numbers as float64."""
    if hasattr(value, "expected"):
        value = value.expected
    if isinstance(value, Tensor):
        return value.detach().double().numpy()
    if isinstance(value, (np.ndarray, float, int)) and not isinstance(value, bool):
        array = np.asarray(value)
        return array.astype(float) if array.dtype.kind in "fiu" else None
    return None


def telling(check, name: str):
    r"""`torch.testing.assert_close` and numpy's kin, which then say what was got and expected, and where."""

    def told(got, expected, *arguments, **options):
        __tracebackhide__ = True
        try:
            check(got, expected, *arguments, **options)
        except AssertionError:
            raise AssertionError(difference(got, expected)) from None

    told.__name__ = name
    return told


class Watcher:
    r"""A plugin for pytest that remembers what failed, and why."""

    def __init__(self, file: Path) -> None:
        self.file, self.passed = file, 0
        self.failures: list[dict[str, object]] = []

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> list[str] | None:
        return [difference(left, right)] if op == "==" else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed

    def pytest_exception_interact(self, node: pytest.Item, call: pytest.CallInfo) -> None:
        info = call.excinfo
        assert info is not None
        here = [entry for entry in info.traceback if Path(entry.path) == self.file]
        self.failures.append(
            {
                "test": node.nodeid,
                "kind": info.type.__name__,
                "message": said(info),
                "line": here[-1].lineno + 1 if here else None,
            }
        )


def said(info: pytest.ExceptionInfo) -> str:
    r"""The first line of what an exception says; of an assertion that only says False, what it asserted."""
    lines = str(info.value).strip().splitlines()
    first = re.sub(r" at 0x[0-9a-f]+", "", lines[0]).removeprefix("assert ") if lines else ""
    if info.type is AssertionError and "got " not in first:
        statement = " ".join(str(info.traceback[-1].statement).split()).removeprefix("assert ")
        return f"this does not hold: {statement}"
    return first[:300]


def run(file: Path, source: str, tests: Sequence[str]) -> dict[str, object]:
    r"""One run of the tests with `source` in `file`."""
    original, started, watcher = file.read_bytes(), time.perf_counter(), Watcher(file)
    file.write_text(source, encoding="utf-8")
    try:
        pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", *tests], plugins=[watcher])
    finally:
        file.write_bytes(original)
    seconds = time.perf_counter() - started
    return {"passed": watcher.passed, "failures": watcher.failures, "seconds": seconds}


def answer(line: str) -> str:
    r"""One line of JSON for another."""
    job = json.loads(line)
    return json.dumps(run(Path(job["file"]).resolve(), job["source"], job["tests"]))


def in_a_fork(line: str) -> str:
    r"""`answer` in a copy of this process, which ends with it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with os.fdopen(writing, "w", encoding="utf-8") as pipe:
            pipe.write(answer(line))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def in_a_new_process(line: str) -> str:
    command = [sys.executable, __file__, "--once"]
    return subprocess.run(
        command, input=line, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ).stdout.strip()


def main() -> None:
    # What tests and learners print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path[0] = os.getcwd()  # the folder of the repository, not that of this script
    sys.dont_write_bytecode = True  # two versions of a file within a second look alike to Python's cache
    torch.testing.assert_close = telling(torch.testing.assert_close, "assert_close")
    np.testing.assert_allclose = telling(np.testing.assert_allclose, "assert_allclose")
    once = sys.argv[1:] == ["--once"]
    one = answer if once else in_a_fork if sys.platform == "linux" else in_a_new_process
    for line in sys.stdin:
        print(one(line), file=answers, flush=True)


if __name__ == "__main__":
    main()
