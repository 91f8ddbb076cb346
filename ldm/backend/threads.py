r"""A process-wide setting, changed for a while.

Such a setting cannot be changed for one thread alone. So the first thread that needs the change makes it, and the last
one undoes it: if each restored what it found, a thread that came second and left last would leave it changed for good.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SharedSetting:
    """A change that is in force while any thread is inside `with changed():`."""

    def __init__(self, change: Callable[[], Callable[[], object]]):
        """`change` makes the change, and returns a function that undoes it."""
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
