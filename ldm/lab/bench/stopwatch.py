"""Seconds and bytes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")  # Linux's account of this process
INTERVAL = 0.01  # seconds between two readings of the memory


def seconds(work: Callable[[], object], times: int = 1) -> float:
    """The duration of one call of `work`, averaged over `times` calls."""
    synchronize()
    start = time.perf_counter()
    for _ in range(times):
        work()
    synchronize()
    return (time.perf_counter() - start) / times


def synchronize() -> None:
    """Wait for the CUDA device, if one is in use: it computes asynchronously."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def anonymous_memory(status: Path = STATUS) -> int | None:
    """Bytes of memory that belong to this process and to no file; None where the system does not report it.

    Memory-mapped weights do not count: under memory pressure, the system drops their pages and rereads them.
    """
    if not status.is_file():
        return None
    for line in status.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024  # "RssAnon:     1234 kB"
    return None


@dataclass
class Peak:
    """The most memory seen so far, in bytes; None where the system does not report it."""

    bytes: int | None = None


@contextmanager
def peak_memory(read: Callable[[], int | None] = anonymous_memory) -> Iterator[Peak]:
    """Poll the memory from another thread while the block runs: Linux does not record the peak itself."""
    peak, over = Peak(read()), threading.Event()

    def poll() -> None:
        while not over.wait(INTERVAL):
            now = read()
            if now is not None:
                peak.bytes = max(peak.bytes or 0, now)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
