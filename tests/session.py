r"""Runs chosen tests again and again, each time with another version of one function; `ldm exercise check` talks to it.

    python tests/session.py tests/nn/test_attention.py ...        (in the repository)

The tests are collected once, which is what takes time. Then one line of JSON comes in for each run, {"module": ...,
"function": ..., "source": ..., "also": ..., "tests": ...}, and one goes out: how many tests passed, and what became of
the others. The function is exchanged in the memory of this process alone; no file is touched.
"""

import json
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest
import torch
from torch import Tensor

# In place of those in pyproject.toml, which need plugins that the tests of exercises can do without.
OPTIONS = ["-o", "addopts=", "-q", "--import-mode=importlib", "-m", "not long", "-p", "no:cacheprovider"]
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


class Runs:
    r"""A plugin for pytest: what it has collected is run whenever somebody asks for it."""

    def __init__(self, jobs: Iterable[str], answers: TextIO) -> None:
        self.jobs, self.answers = jobs, answers
        self.file, self.passed = Path(), 0
        self.failures: list[dict[str, object]] = []

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> list[str] | None:
        return [difference(left, right)] if op == "==" else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed

    def pytest_exception_interact(self, node: pytest.Item, call: pytest.CallInfo) -> None:
        assert call.excinfo is not None
        self.note(node.nodeid, call.excinfo)

    def note(self, test: str, info: pytest.ExceptionInfo) -> None:
        here = [entry for entry in info.traceback if Path(entry.path) == self.file]
        line = here[-1].lineno + 1 if here else None
        self.failures.append({"test": test, "kind": info.type.__name__, "message": said(info), "line": line})

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        from tests.swapping import swapped

        for line in self.jobs:
            job = json.loads(line)
            items = [item for item in session.items if chosen(item.nodeid, job["tests"])]
            self.file, self.passed, self.failures = Path(job["file"]).resolve(), 0, []
            started = time.perf_counter()
            try:
                with swapped(job["module"], job["function"], job["source"], job["also"], str(self.file)):
                    for item in items:
                        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
            except Exception as error:  # the module cannot be run at all: a helper raises
                self.note("", pytest.ExceptionInfo.from_exception(error))
            done = {
                "passed": self.passed,
                "failures": self.failures,
                "seconds": time.perf_counter() - started,
            }
            print(json.dumps(done), file=self.answers, flush=True)
        return True


def chosen(name: str, tests: Sequence[str]) -> bool:
    r"""Whether pytest's name of a test is one of `tests`, or belongs to one: to a file, or as one of its parameters."""
    return any(name == test or name.startswith((f"{test}::", f"{test}[")) for test in tests)


def said(info: pytest.ExceptionInfo) -> str:
    r"""The first line of what an exception says; of an assertion that only says False, what it asserted."""
    lines = str(info.value).strip().splitlines()
    first = re.sub(r" at 0x[0-9a-f]+", "", lines[0]).removeprefix("assert ") if lines else ""
    if info.type is AssertionError and "got " not in first:
        statement = " ".join(str(info.traceback[-1].statement).split()).removeprefix("assert ")
        return f"this does not hold: {statement}"
    return first[:300]


def main() -> None:
    # Pytest takes the keyboard away, and what tests and learners print must not get between the answers.
    jobs, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path[0] = os.getcwd()  # the folder of the repository, not that of this script
    sys.dont_write_bytecode = True
    torch.testing.assert_close = telling(torch.testing.assert_close, "assert_close")
    np.testing.assert_allclose = telling(np.testing.assert_allclose, "assert_allclose")
    pytest.main([*OPTIONS, *sys.argv[1:]], plugins=[Runs(jobs, answers)])


if __name__ == "__main__":
    main()
