r"""What was assumed about a file, or not followed: `ldm.load` logs it, `inspect` collects it for its report."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

log = logging.getLogger("ldm")

_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)


def note(message: str, level: int = logging.WARNING) -> None:
    """Log a line, or add it to the list of the `collect_notes` around this call."""
    notes = _collected.get()
    if notes is None:
        log.log(level, "%s", message)
    elif message not in notes:
        notes.append(message)


@contextmanager
def collect_notes() -> Iterator[list[str]]:
    """The lines noted inside the block, in this thread alone; they are not logged."""
    notes: list[str] = []
    token = _collected.set(notes)
    try:
        yield notes
    finally:
        _collected.reset(token)
