r"""python tests/notebooks/offline.py NOTEBOOK.py: run it from top to bottom without a network, then its solutions.

Prints the seconds of processor time that the notebook took, its solutions not counted. With one thread and without a
network these are the seconds that a learner waits; unlike those on the clock, they do not grow when other work runs.
"""

import runpy
import sys
import time
from pathlib import Path

import pytest_socket


def run(path: Path) -> float:
    pytest_socket.disable_socket(allow_unix_socket=True)
    sys.path.insert(0, str(path.parent))
    began = time.process_time()
    names = runpy.run_path(str(path), run_name="__main__")
    seconds = time.process_time() - began
    from build import read_source, solutions

    for solution in solutions(read_source(path)):
        exec(solution, dict(names))
    return seconds


if __name__ == "__main__":
    print(run(Path(sys.argv[1]).resolve()))
