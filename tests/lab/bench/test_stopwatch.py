r"""Seconds and bytes."""

import itertools
import mmap
import time

import pytest
import torch

from ldm.lab.bench import stopwatch
from ldm.lab.bench.stopwatch import anonymous_memory, peak_memory, seconds


def test_seconds_are_the_mean_over_the_calls(monkeypatch):
    clock = itertools.count(step=6.0)  # each reading is 6 seconds after the last
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    calls = []
    assert seconds(lambda: calls.append(1), times=3) == 2.0 and len(calls) == 3


def test_anonymous_memory_is_what_linux_calls_so(tmp_path):
    status = tmp_path / "status"
    status.write_text("VmRSS:\t  900 kB\nRssAnon:\t     512 kB\nRssFile:\t 388 kB\n")
    assert anonymous_memory(status) == 512 * 1024
    status.write_text("VmRSS:\t  900 kB\n")
    assert anonymous_memory(status) is None and anonymous_memory(tmp_path / "none") is None


def test_the_peak_is_the_most_that_was_seen_also_between_the_ends(monkeypatch):
    monkeypatch.setattr(stopwatch, "INTERVAL", 0.001)
    levels, seen = iter([3, 9, 4]), []

    def read():
        seen.append(next(levels, 2))
        return seen[-1]

    with peak_memory(read) as peak:
        while len(seen) < 5:
            time.sleep(0.001)
    assert peak.bytes == 9


def test_a_card_that_computes_on_its_own_is_waited_for(monkeypatch):
    told = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: told.append("waited"))
    seconds(lambda: told.append("worked"), times=2)
    assert told == ["waited", "worked", "worked", "waited"]


def test_memory_that_is_gone_again_is_seen():
    if anonymous_memory() is None:
        pytest.skip("the system does not tell")
    before = anonymous_memory()
    # A map, not a bytearray: malloc may have memory left over, which is in the account already.
    with peak_memory() as peak, mmap.mmap(-1, 2**26, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block.write(b"x" * 2**26)
        time.sleep(10 * stopwatch.INTERVAL)
    assert peak.bytes - before > 2**25


def test_where_the_system_does_not_tell_there_is_no_peak():
    with peak_memory(lambda: None) as peak:
        pass
    assert peak.bytes is None
