r"""How much memory a piece of work takes at its worst.

Two figures. What is resident counts all pages, also those of a mapped file, which the system can drop and read again at
will. What is anonymous counts only those that it cannot drop: memory that the program has asked for and written to.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

STATUS = Path("/proc/self/status")  # Linux; elsewhere nothing is measured, and 0 is reported
EVERY = 0.005  # seconds between two looks


@dataclass(frozen=True)
class Cost:
    r"""Seconds of the processor, and megabytes (10^6) at the worst moment: resident, and anonymous beyond the start.

    Of two threads at work, each counts. Unlike the clock's, such seconds hardly depend on what else the machine does.
    """

    seconds: float
    resident: float
    anonymous: float
    note: str = ""

    def as_dict(self) -> dict[str, float | str]:
        return asdict(self)


def pages(field: str) -> float:
    r"""One line of the process's status, in megabytes."""
    if not STATUS.is_file():
        return 0.0
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[field].split()[0]) * 1024 / 1e6


def cost(work: Callable[[], str]) -> Cost:
    r"""Do the work, which returns a note, and watch what it takes."""
    before, seen, done = pages("RssAnon"), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(EVERY):
            seen[0] = max(seen[0], pages("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.process_time()
    try:
        note = work()
        seconds = time.process_time() - started
        seen[0] = max(seen[0], pages("RssAnon"))
    finally:
        done.set()
        watcher.join()
    return Cost(seconds, pages("VmHWM"), max(seen[0] - before, 0.0), note)
