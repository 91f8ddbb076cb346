r"""python tests/notebooks/offline.py NOTEBOOK.py: run it from top to bottom without a network, then its solutions.

Prints the seconds that a learner waits for the notebook, its solutions not counted: those on the clock, or where other
work slows it down those of the processor, which cannot be fewer than a learner would wait on an idle machine.
"""

import sys
import time
from pathlib import Path

import pytest_socket


def run(path: Path) -> float:
    pytest_socket.disable_socket(allow_unix_socket=True)
    sys.path.insert(0, str(path.parent))  # where `show` is
    names: dict[str, object] = {"__name__": "__main__", "__file__": str(path)}
    began = time.perf_counter(), time.process_time()
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), names)
    seconds = min(time.perf_counter() - began[0], time.process_time() - began[1])

    from build import read_source, solutions

    for number, solution in enumerate(solutions(read_source(path)), start=1):
        exec(compile(solution, f"{path.name}, solution {number}", "exec"), names)
    return seconds


if __name__ == "__main__":
    print(run(Path(sys.argv[1]).resolve()))
