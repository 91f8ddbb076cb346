r"""The watch over memory: it sees what was there at the worst moment, and only what was written to."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.rehearsal.memory import STATUS, cost

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not STATUS.is_file(), reason="reads /proc, which is Linux's")


WORK = """
import time
import numpy as np
from tests.rehearsal.memory import cost

def work():
    block = np.ones(10_000_000)  # 80 MB
    time.sleep(0.2)  # on a busy machine the watch needs a moment
    del block  # given back before the end
    return "a note"

seen = cost(work)
print(seen.anonymous, seen.resident, seen.note)
"""


def test_memory_is_seen_at_its_worst_and_not_only_at_the_end():
    # In a process of its own: this one may have memory in hand that counts already.
    done = subprocess.run([sys.executable, "-c", WORK], cwd=ROOT, capture_output=True, text=True, check=True)
    anonymous, resident, *note = done.stdout.split()
    assert 70 < float(anonymous) < 100 and float(resident) > float(anonymous)
    assert note == ["a", "note"]


def test_a_file_that_is_only_mapped_is_resident_and_not_anonymous(tmp_path):
    np.ones(10_000_000).tofile(tmp_path / "numbers")

    def work():
        return str(np.memmap(tmp_path / "numbers").sum())

    assert cost(work).anonymous < 20


def test_an_error_in_the_work_comes_out_and_the_watch_ends():
    with pytest.raises(ZeroDivisionError):
        cost(lambda: str(1 / 0))
