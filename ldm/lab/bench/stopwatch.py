"""Seconds, and bytes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")  # Linux's account of this process
INTERVAL = 0.01  # seconds between two looks at the memory


def seconds(work: Callable[[], object], times: int = 1) -> float:
    """How long one call of `work` takes, on average over `times` calls."""
    finish()
    start = time.perf_counter()
    for _ in range(times):
        work()
    finish()
    return (time.perf_counter() - start) / times


def finish() -> None:
    """Wait for the CUDA card, if one is in use: it is handed work, and does it while Python goes on."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def anonymous_memory(status: Path = STATUS) -> int | None:
    """Bytes that belong to this process alone, and to no file; None where the system does not tell.

    A mapped file of weights does not count: under pressure its pages are dropped, and read again when needed.
    """
    if not status.is_file():
        return None
    for line in status.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024  # "RssAnon:     1234 kB"
    return None


@dataclass
class Peak:
    """The most memory seen so far, in bytes; None where the system does not tell."""

    bytes: int | None = None


@contextmanager
def peak_memory(look: Callable[[], int | None] = anonymous_memory) -> Iterator[Peak]:
    """Watch the memory from a thread of its own while the block runs: Linux itself keeps no such record."""
    peak, over = Peak(look()), threading.Event()

    def watch() -> None:
        while not over.wait(INTERVAL):
            now = look()
            if now is not None:
                peak.bytes = max(peak.bytes or 0, now)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
