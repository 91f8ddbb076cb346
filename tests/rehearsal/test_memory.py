r"""The watch over memory: it sees what was there at the worst moment, and only what was written to."""

import numpy as np
import pytest

from tests.rehearsal.memory import STATUS, cost

pytestmark = pytest.mark.skipif(not STATUS.is_file(), reason="reads /proc, which is Linux's")


def test_memory_is_seen_at_its_worst_and_not_only_at_the_end():
    def work():
        for _ in range(20):
            np.ones(10_000_000)  # 80 MB, and given back at once
        return "a note"

    seen = cost(work)
    assert 70 < seen.anonymous < 100 and seen.resident > seen.anonymous
    assert seen.note == "a note" and seen.seconds > 0


def test_a_file_that_is_only_mapped_is_resident_and_not_anonymous(tmp_path):
    np.ones(10_000_000).tofile(tmp_path / "numbers")

    def work():
        return str(np.memmap(tmp_path / "numbers").sum())

    assert cost(work).anonymous < 20


def test_an_error_in_the_work_comes_out_and_the_watch_ends():
    with pytest.raises(ZeroDivisionError):
        cost(lambda: str(1 / 0))
