r"""Memory is kept when a program asks for it, and only then."""

import subprocess
import sys
from pathlib import Path

import pytest

from ldm.backend import allocator

REPOSITORY = Path(__file__).resolve().parents[1]
# How often the system must hand over pages while 64 MiB are allocated, filled and freed, four times over.
COUNT = """
import ctypes, resource, sys
from ldm.backend.allocator import keep_heap
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
    assert allocator.keep_heap() is False


# Page faults of eight blocks of 64 MiB and of 16 MiB, while large blocks are kept apart, and after that.
APART = (
    COUNT.split("def fill")[0]
    + """
from ldm.backend.allocator import mmap_large_blocks
def faults(size):
    def fill():
        block = libc.malloc(size)
        ctypes.memset(block, 1, size)
        libc.free(block)
    fill()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        fill()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
with mmap_large_blocks():
    print(faults(2**26), faults(2**24))
print(faults(2**26))
"""
)


def test_while_large_blocks_are_apart_only_the_others_are_kept():
    done = subprocess.run(
        [sys.executable, "-c", APART, "keep"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    if "glibc is not here" in done.stderr:
        pytest.skip("this system's C library cannot")
    assert done.returncode == 0, done.stderr
    large, small, after = map(int, done.stdout.split())
    assert large >= 8 * 32 and small < 64 and after < 64  # 32 huge pages at least


def test_a_heap_that_nobody_keeps_is_left_alone(monkeypatch):
    told = []
    monkeypatch.setattr(allocator, "_kept", False)
    monkeypatch.setattr(
        allocator, "_of_glibc", lambda name: lambda *numbers: told.append((name, numbers)) or 1
    )
    with allocator.mmap_large_blocks():
        assert told == []
    assert told == []
    allocator.keep_heap()
    with allocator.mmap_large_blocks():
        pass
    names = [name for name, _ in told]
    assert names == ["mallopt"] * 2 + ["malloc_trim"] + ["mallopt"] * 3
    assert told[-1] == told[0] == ("mallopt", (allocator.M_MMAP_MAX, 0))


def test_the_heap_is_as_before_after_an_error(monkeypatch):
    told = []
    monkeypatch.setattr(allocator, "_kept", True)
    monkeypatch.setattr(allocator, "_of_glibc", lambda name: lambda *numbers: told.append(numbers) or 1)
    with pytest.raises(KeyError), allocator.mmap_large_blocks():
        raise KeyError
    assert told[-1] == (allocator.M_MMAP_MAX, 0)
