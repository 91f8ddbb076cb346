r"""Check an answer with the component's own tests.

The tests run in another process (`tests/session.py`), which replaces the function in its own memory only: no file is
changed, and an answer that never returns can be stopped.

A mistake is recognised by what it does, not by how it is written: the typical mistakes run through the same tests, and
if one fails the same tests with the same numbers, the answer makes that mistake. An answer may make several: a wrong
coefficient, say, and a check left out. They are named if together they explain every failure.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Timer

from ldm.errors import LdmError
from ldm.lab.exercises.exercise import Exercise, Mistake
from ldm.lab.exercises.patching import ROOT, Attempt, with_mistake

NEEDED = ("pytest", "beartype", "hypothesis")  # the extra `exercises`, which `make demo` installs
SETTINGS = {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
LIMIT = 60.0  # the most seconds for one run of an exercise's tests; they take about one, and starting three


@dataclass(frozen=True)
class Failure:
    """A failed test: its name in pytest, the exception's class and first line."""

    test: str  # empty if the answer's file raises an exception when it is imported
    kind: str
    message: str
    line: int | None  # in the attempt's file, if the exception was raised there

    @property
    def symptom(self) -> tuple[str, str, str]:
        """What distinguishes one mistake from another. torch's messages about shapes do; those of other exceptions
        contain names and lines, which differ even for the same mistake."""
        return self.test, self.kind, self.message if self.kind in ("AssertionError", "RuntimeError") else ""


@dataclass(frozen=True)
class CheckResult:
    """The result of the tests."""

    passed: int
    failures: tuple[Failure, ...]
    seconds: float

    @property
    def right(self) -> bool:
        return self.passed > 0 and not self.failures

    @property
    def is_unwritten(self) -> bool:
        return any(failure.kind == "NotImplementedError" for failure in self.failures)

    @property
    def symptoms(self) -> frozenset[tuple[str, str, str]]:
        return frozenset(failure.symptom for failure in self.failures)

    def looks_like(self, other: "CheckResult") -> bool:
        return bool(self.symptoms) and self.symptoms == other.symptoms


class Session:
    """A process that runs tests with one function replaced. `open_session` starts and ends it."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process, self.log = process, log

    def run(self, exercise: Exercise, attempt: Attempt, limit: float = LIMIT) -> CheckResult:
        """Run the exercise's tests. Raises `LdmError` if they take longer than `limit` or cannot run at all."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        job = {"module": exercise.module, "function": exercise.function, "tests": exercise.tests}
        job |= {"file": str(attempt.path.resolve()), "source": attempt.source, "also": attempt.also}
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
            reply = json.loads(answer)
            failures = tuple(Failure(**failure) for failure in reply["failures"])
            found = CheckResult(reply["passed"], failures, reply["seconds"])
            if not found.passed and not found.failures:
                raise LdmError(f"no tests of {exercise.name} were found: {', '.join(exercise.tests)}")
            return found
        if in_time:
            raise LdmError(f"the tests of {exercise.name} could not run: {self.complaint()}")
        raise LdmError(
            f"{exercise.name}: the tests did not finish within {limit:.0f} seconds; is there an endless loop?"
        )

    def complaint(self) -> str:
        """The last line that the process wrote before it ended."""
        self.process.wait()
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1] if lines else f"the process ended with {self.process.returncode}"


@contextmanager
def open_session(exercises: Iterable[Exercise], root: Path = ROOT) -> Iterator[Session]:
    """A `Session` for the tests of some exercises. Raises `LdmError` if the tests or their requirements are missing."""
    if not (root / "tests" / "session.py").is_file():
        raise LdmError(
            "the tests that check an answer are missing: clone the repository and run the check in its environment"
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


def recognise(session: Session, exercise: Exercise, found: CheckResult) -> list[Mistake]:
    """The typical mistake that fails in the same way, or the several that together do; none if nothing fits."""
    parts: list[tuple[Mistake, frozenset[tuple[str, str, str]]]] = []
    for mistake in exercise.mistakes:
        outcome = session.run(exercise, with_mistake(exercise, mistake))
        if outcome.looks_like(found):
            return [mistake]
        if outcome.symptoms <= found.symptoms:
            parts.append((mistake, outcome.symptoms))
    named: list[Mistake] = []
    unexplained = set(found.symptoms)
    for mistake, symptoms in sorted(parts, key=lambda part: -len(part[1])):
        if symptoms & unexplained:
            named.append(mistake)
            unexplained -= symptoms
    return [] if unexplained else named


def explain(exercise: Exercise, path: Path, found: CheckResult, known: Sequence[Mistake] = ()) -> list[str]:
    """The result for an answer in the file `path`, in plain words, line by line; `known` are the mistakes in it."""
    total = found.passed + len(found.failures)
    if found.right:
        return [
            f"{exercise.name}: right. All {total} tests pass ({found.seconds:.1f} s).",
            f"Compare: ldm exercise solution {exercise.name}",
        ]
    if found.is_unwritten:
        return [f"{exercise.name}: not written yet. {path} still raises NotImplementedError."]
    first = found.failures[0]
    where = f" ({path}, line {first.line})" if first.line else ""
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
        *(f"{'It also' if i else 'This'} {mistake.description}." for i, mistake in enumerate(known)),
    ]
