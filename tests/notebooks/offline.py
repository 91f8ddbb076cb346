r"""python tests/notebooks/offline.py NOTEBOOK.py: run it from top to bottom without a network, then its solutions.

Prints the seconds of processor time that the notebook took, its solutions not counted. With one thread these are the
seconds that a learner waits; unlike those on the clock, they do not grow when other work runs.
"""

import sys
import time
from pathlib import Path

import pytest_socket


def run(path: Path) -> float:
    pytest_socket.disable_socket(allow_unix_socket=True)
    sys.path.insert(0, str(path.parent))  # where `show` is
    names: dict[str, object] = {"__name__": "__main__", "__file__": str(path)}
    began = time.process_time()
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), names)
    seconds = time.process_time() - began

    from build import read_source, solutions

    for number, solution in enumerate(solutions(read_source(path)), start=1):
        exec(compile(solution, f"{path.name}, solution {number}", "exec"), names)
    return seconds


if __name__ == "__main__":
    print(run(Path(sys.argv[1]).resolve()))
