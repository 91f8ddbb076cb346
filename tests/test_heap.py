r"""Memory is kept when a program asks for it, and only then."""

import subprocess
import sys
from pathlib import Path

import pytest

from ldm import heap

REPOSITORY = Path(__file__).resolve().parents[1]
# How often the system must hand over pages while 64 MiB are allocated, filled and freed, four times over.
COUNT = """
import ctypes, resource, sys
from ldm.heap import keep_heap
if "keep" in sys.argv and not keep_heap():
    sys.exit("glibc is not here")
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def fill():
    block = libc.malloc(2**26)
    ctypes.memset(block, 1, 2**26)
    libc.free(block)
fill()
before = resource.getrusage(resource.RUSAGE_SELF)
for _ in range(4):
    fill()
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_minflt - before.ru_minflt)
"""


def faults(*options: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", COUNT, *options], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    if "glibc is not here" in done.stderr:
        pytest.skip("this system's C library cannot")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory_is_handed_over_once_and_not_each_time():
    # A page is 4 KiB as a rule, and at most 64 KiB; with huge pages (2 MiB) there is little to hand over.
    given_back, kept = faults(), faults("keep")
    assert kept < 64 and (given_back > 10 * kept or given_back <= 4 * 32 + 64)


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert heap.keep_heap() is False
