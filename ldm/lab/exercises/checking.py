r"""Checking an answer: the component's own tests, with the answer in place of the live function.

The tests run in a process of their own, in whose memory alone the function is exchanged: no file is touched, and an
answer that never ends can be stopped. `tests/session.py` is what runs there.

How is a mistake recognised? By what it does, not by how it is written: the typical wrong answers run through the same
tests, and if one of them fails the same tests with the same numbers, the answer makes that mistake.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import Any

from ldm.errors import LdmError
from ldm.lab.exercises.cutting import ROOT, Placed, mistaken
from ldm.lab.exercises.exercise import Exercise, Wrong

NEEDED = ("pytest", "beartype", "hypothesis")  # the extra `exercises`, which `make demo` installs
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}  # only the plugins that it asks for
LIMIT = 60.0  # seconds that one run of an exercise's tests may take; they take about one, and starting three


@dataclass(frozen=True)
class Failure:
    """A test that did not pass: its name in pytest, the exception's class and first line."""

    test: str  # empty if no test could run, because the answer's file raises an exception by itself
    kind: str
    message: str
    line: int | None  # of the patched module, if the exception came out of it

    @property
    def symptom(self) -> tuple[str, str, str]:
        """What tells one mistake from another. Torch's complaints about shapes are telling; other exceptions speak of
        names and lines, which differ however alike the mistakes are."""
        return self.test, self.kind, self.message if self.kind in ("AssertionError", "RuntimeError") else ""


@dataclass(frozen=True)
class Outcome:
    """What became of the tests; none failed and none passed if they did not come to an end."""

    passed: int
    failures: tuple[Failure, ...]
    seconds: float

    @property
    def right(self) -> bool:
        return self.passed > 0 and not self.failures

    @property
    def is_unwritten(self) -> bool:
        return any(failure.kind == "NotImplementedError" for failure in self.failures)

    def looks_like(self, other: "Outcome") -> bool:
        mine, theirs = ({failure.symptom for failure in o.failures} for o in (self, other))
        return bool(mine) and mine == theirs


class Session:
    """A process that runs tests with one function exchanged. `open_session` starts and ends it."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process, self.log = process, log

    def run(self, exercise: Exercise, placed: Placed, limit: float = LIMIT) -> Outcome:
        """Run the exercise's tests. Raises `LdmError` if they take longer than `limit` or cannot run at all."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        job = {"module": exercise.module, "function": exercise.function, "tests": exercise.tests}
        job |= {"file": str(ROOT / exercise.file), "source": placed.source, "also": placed.also}
        late = Timer(limit, self.process.kill)
        late.start()
        try:
            stdin.write(json.dumps(job) + "\n")
            stdin.flush()
            answer = stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            in_time = late.is_alive()
            late.cancel()
        if answer:
            found = outcome(json.loads(answer))
            if not found.passed and not found.failures:
                raise LdmError(f"no tests of {exercise.name} were found: {', '.join(exercise.tests)}")
            return found
        if in_time:
            raise LdmError(f"the tests of {exercise.name} could not run: {self.complaint()}")
        raise LdmError(
            f"{exercise.name}: the tests did not come to an end within {limit:.0f} seconds; does a loop never end?"
        )

    def complaint(self) -> str:
        """The last line that the process wrote before it ended."""
        self.process.wait()
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1] if lines else f"the process ended with {self.process.returncode}"


def outcome(answer: dict[str, Any]) -> Outcome:
    failures = tuple(Failure(**failure) for failure in answer["failures"])
    return Outcome(answer["passed"], failures, answer["seconds"])


@contextmanager
def open_session(exercises: Iterable[Exercise], root: Path = ROOT) -> Iterator[Session]:
    """A `Session` for the tests of some exercises. Raises `LdmError` if the tests, or what they need, are not there."""
    if not (root / "tests" / "session.py").is_file():
        raise LdmError(
            "the tests that check an answer are not here: clone the repository, and check in its environment"
        )
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise LdmError(
            f"checking an answer needs {', '.join(missing)}; to install: "
            + shlex.join([sys.executable, "-m", "pip", "install", *missing])
        )
    files = dict.fromkeys(test.partition("::")[0] for exercise in exercises for test in exercise.tests)
    with tempfile.TemporaryDirectory(prefix="ldm-exercise-") as folder:
        log = Path(folder) / "log"
        with open(log, "w", encoding="utf-8") as stderr:
            process = subprocess.Popen(
                [sys.executable, "tests/session.py", *files],
                cwd=root,
                env=os.environ | SETTINGS | {"PYTHONPATH": str(root)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
            )
            try:
                yield Session(process, log)
            finally:
                process.kill()
                process.communicate()


def recognise(session: Session, exercise: Exercise, found: Outcome) -> Wrong | None:
    """The typical wrong answer that fails as this one did, if there is one."""
    for wrong in exercise.wrong:
        if session.run(exercise, mistaken(exercise, wrong)).looks_like(found):
            return wrong
    return None


def explain(exercise: Exercise, placed: Placed, path: Path, found: Outcome, known: Wrong | None) -> list[str]:
    """In plain words, a line each: what the tests say of an answer in the file `path`."""
    total = found.passed + len(found.failures)
    if found.right:
        return [
            f"{exercise.name}: right. All {total} tests pass ({found.seconds:.1f} s).",
            f"Compare: ldm exercise solution {exercise.name}",
        ]
    if found.is_unwritten:
        return [f"{exercise.name}: not written yet. {path} still raises NotImplementedError."]
    first = found.failures[0]
    line = placed.lines.get(first.line or 0)
    where = f" ({path}, line {line})" if line else ""
    what = (
        first.message
        if first.kind in ("AssertionError", "Failed")
        else f"{first.kind}: {first.message}{where}"
    )
    if not first.test:
        return [f"{exercise.name}: not yet. {path} cannot be run:", f"    {what}"]
    return [
        f"{exercise.name}: not yet. {len(found.failures)} of {total} tests fail.",
        f"The first is {first.test.rpartition('::')[2]}, in {first.test.partition('::')[0]}:",
        f"    {what}",
        *([f"This {known.says}."] if known else []),
    ]
