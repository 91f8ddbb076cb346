r"""A setting that all threads of a process share, changed for a while.

It cannot be changed for one thread alone. So the first thread that needs it changes it, and the last one changes it
back: were each to put back what it found, a thread that came second and left last would leave it changed for good.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class WhileNeeded:
    """A change that is in force for as long as any thread is inside of `with changed():`."""

    def __init__(self, change: Callable[[], Callable[[], object]]):
        """`change` makes the change, and returns what undoes it."""
        self._change = change
        self._lock = threading.Lock()
        self._inside = 0
        self._undo: Callable[[], object] = lambda: None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._undo = self._change()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._undo()
