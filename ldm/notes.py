r"""What the package says without being asked: what it chose, assumed about a file, did not follow, or cleaned up.

Each is one line of the log "ldm". The command line prints these lines, and `inspect` collects them for its report.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger("ldm")


@contextmanager
def hearing(hear: Callable[[str], object]) -> Iterator[None]:
    """Inside the block, what this thread logs goes to `hear`, line by line, and nowhere else; also information."""
    thread, level = threading.get_ident(), log.level

    def take(record: logging.LogRecord) -> bool:
        if record.thread != thread:
            return True
        hear(record.getMessage())
        return False

    log.filters.insert(0, take)  # of nested blocks, the innermost hears it
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeFilter(take)
        log.setLevel(level)


@contextmanager
def collect_notes() -> Iterator[list[str]]:
    """The lines logged inside the block, each once."""
    notes: list[str] = []
    with hearing(lambda line: None if line in notes else notes.append(line)):
        yield notes
