r"""Runs cases in a process of their own, notices how it ends, and adds up."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

PATIENCE = 60  # seconds without a word from the worker: then a case hangs, or the machine is asleep
CHUNK = 20_000  # cases between two notes of how far we are

Case = tuple[int, str, str, float, float, str]  # number, kind, outcome, seconds, megabytes, detail


@dataclass
class Tally:
    r"""How the cases of one kind ended."""

    cases: int = 0
    errors: int = 0
    right: int = 0
    slowest: float = 0.0
    largest: float = 0.0


@dataclass
class Total:
    seed: int
    done: int = 0  # cases, from the first
    kinds: dict[str, Tally] = field(default_factory=dict)
    failures: list[list] = field(default_factory=list)  # [number, kind, outcome, detail]

    def add(self, case: Case) -> None:
        number, kind, outcome, seconds, megabytes, detail = case
        tally = self.kinds.setdefault(kind, Tally())
        tally.cases += 1
        tally.errors += outcome == "error"
        tally.right += outcome == "right"
        tally.slowest, tally.largest = max(tally.slowest, seconds), max(tally.largest, megabytes)
        if outcome not in ("error", "right"):
            self.failures.append([number, kind, outcome, detail])


def cases(seed: int, begin: int, end: int) -> Iterator[Case]:
    r"""The cases from `begin` up to `end`. A worker that dies or hangs is a case that broke, and another goes on."""
    from tests.fuzz.worker import kind_of

    while begin < end:
        command = [sys.executable, "-m", "tests.fuzz.worker", str(seed), str(begin), str(end)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
            assert process.stdout is not None
            lines: queue.Queue[str] = (
                queue.Queue()
            )  # filled by a thread: a pipe that is waited for may be read ahead
            threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
            current, patience, hangs = None, 10 * PATIENCE, False  # it makes the originals first
            while True:
                try:
                    line = lines.get(timeout=patience)
                except queue.Empty:
                    hangs = True
                    break
                patience = PATIENCE
                if not line.endswith("\n"):
                    break
                said = json.loads(line)
                if isinstance(said, list):
                    yield tuple(said)
                    begin, current = said[0] + 1, None
                else:
                    current = said
            process.kill()
        if begin < end:
            if current is None:
                raise RuntimeError(f"the worker ended before case {begin} (exit status {process.returncode})")
            how = "it hangs" if hangs else f"the process ended with {process.returncode}"
            yield begin, kind_of(begin).name, "broke", float(PATIENCE), 0.0, how
            begin += 1


def _pass_on(stdout: Iterable[str], lines: queue.Queue[str]) -> None:
    r"""Put each line into the queue, and an empty one at the end."""
    for line in stdout:
        lines.put(line)
    lines.put("")


def run(seed: int, count: int, journal: Path | None = None) -> Total:
    r"""All cases up to `count`; with a journal, going on from where it was left."""
    total = Total(seed)
    if journal and journal.is_file():
        kept = json.loads(journal.read_text())
        if kept["seed"] == seed:
            total = Total(
                seed, kept["done"], {k: Tally(**t) for k, t in kept["kinds"].items()}, kept["failures"]
            )
    while total.done < count:
        end = min(count, total.done + CHUNK)
        for case in cases(seed, total.done, end):
            total.add(case)
        total.done = end
        if journal:
            journal.parent.mkdir(parents=True, exist_ok=True)
            journal.write_text(json.dumps(asdict(total)))
            print(f"{end} of {count} cases, {len(total.failures)} failures", file=sys.stderr, flush=True)
    return total
