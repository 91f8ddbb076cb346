r"""Some mutated files of each kind, and that the harness would notice a reader that fails."""

import gc
import sys
import time
from random import Random

import pytest

from ldm.errors import LdmError
from tests.fuzz import kinds, mutate, run, worker
from tests.fuzz.__main__ import table
from tests.fuzz.guided import NAMES, targets


def cases_of(folder, seed, numbers):
    bench = worker.Bench(folder)
    return [(number, *bench.run(seed, number)) for number in numbers]


def test_three_hundred_mutated_files_end_in_our_error_or_a_right_result(tmp_path, monkeypatch):
    # The checks of types that run only in tests take time of their own.
    monkeypatch.setattr(worker, "MOST_SECONDS", 30.0)
    found = cases_of(tmp_path, seed=1, numbers=range(300))
    assert {kind for _, kind, *_ in found} == {kind.name for kind in kinds.KINDS}
    assert [case for case in found if case[2] not in ("error", "right")] == []
    outcomes = [case[2] for case in found]
    assert outcomes.count("error") > 100 and outcomes.count("right") > 20


@pytest.mark.long
def test_five_thousand_mutated_files_end_in_our_error_or_a_right_result():
    total = run.run(seed=2, count=5000)
    assert total.failures == [] and sum(tally.cases for tally in total.kinds.values()) == 5000


def test_the_same_number_is_the_same_case(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    first, again = (cases_of(tmp_path / name, seed=5, numbers=range(40)) for name in "ab")
    assert [case[:3] for case in first] == [case[:3] for case in again]


def test_mutations_leave_no_trace_in_what_they_choose_from():
    before = repr(mutate.VALUES)
    for number in range(2000):
        mutate.change_json(Random(number), '{"a": [1, [2, {"b": 3}]], "c": {}}')
    assert repr(mutate.VALUES) == before


def judge(tmp_path, read, wrong=lambda folder, read, base: None):
    kind = kinds.Kind("k", 0, lambda folder: None, lambda rng, base: {}, read, wrong)
    return worker.judged(kind, tmp_path, None)


def test_a_reader_that_fails_is_noticed(tmp_path, monkeypatch):
    def ours(folder, base):
        raise LdmError("no")

    assert judge(tmp_path, ours)[::3] == ("error", "no")
    outcome, _, _, detail = judge(tmp_path, lambda folder, base: 1 / 0)
    assert outcome == "broke" and detail.startswith("ZeroDivisionError")
    assert judge(tmp_path, lambda folder, base: 1)[0] == "right"
    assert judge(tmp_path, lambda folder, base: 1, lambda *_: "other")[::3] == ("wrong", "other")
    refused = judge(tmp_path, lambda folder, base: 1, lambda *_: ours(None, None))
    assert refused[0] == "wrong" and refused[3] == "the other reader refuses it: LdmError: no"
    monkeypatch.setattr(worker, "MOST_SECONDS", 0.01)
    assert judge(tmp_path, lambda folder, base: busy(0.05))[0] == "broke"


def busy(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux lets the note of the peak begin anew"
)
def test_a_reader_that_takes_much_memory_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "MOST_MEMORY", 20 << 20)
    gc.collect()  # what other tests left behind would be freed while the reader is measured, and hide what it takes
    # So much that it cannot lie in memory which this process has in hand from other tests.
    outcome, _, megabytes, _ = judge(tmp_path, lambda folder, base: len(b"x" * (400 << 20)))
    assert outcome == "broke" and 200 < megabytes < 420
    assert judge(tmp_path, lambda folder, base: len(b"x" * (1 << 20)))[0] == "right"


@pytest.fixture
def fake_worker(tmp_path, monkeypatch):
    r"""Cases 0 to 4 of a worker that aborts at 1, or sleeps at 3."""

    def make(trouble):
        program = (
            "import os, sys, time\n"
            "for n in range(int(sys.argv[2]), int(sys.argv[3])):\n"
            f"    print(n, flush=True)\n    {trouble}\n"
            '    print(f\'[{n}, "k", "right", 0.1, 2, ""]\', flush=True)\n'
        )
        (tmp_path / "worker.py").write_text(program)
        start = run.subprocess.Popen
        monkeypatch.setattr(
            run.subprocess,
            "Popen",
            lambda command, **rest: start([command[0], str(tmp_path / "worker.py"), *command[3:]], **rest),
        )
        return [(number, outcome, detail) for number, _, outcome, _, _, detail in run.cases(0, 0, 4)]

    return make


def test_a_worker_that_dies_is_a_case_that_broke_and_the_rest_is_run(fake_worker):
    found = fake_worker("os.abort() if n == 1 else None")
    died = (1, "broke", "the process ended with -6")
    assert found == [(0, "right", ""), died, (2, "right", ""), (3, "right", "")]


@pytest.mark.long
def test_a_worker_that_hangs_is_a_case_that_broke_and_the_rest_is_run(fake_worker, monkeypatch):
    monkeypatch.setattr(run, "PATIENCE", 10)
    found = fake_worker("time.sleep(60) if n == 1 else None")
    assert found == [(0, "right", ""), (1, "broke", "it hangs"), (2, "right", ""), (3, "right", "")]


def test_an_interrupted_run_goes_on_from_its_journal(tmp_path, monkeypatch):
    asked = []

    def cases(seed, begin, end):
        asked.append((begin, end))
        return [(n, "k", "wrong" if n == 1 else "right", 0.1, 2.0, "why") for n in range(begin, end)]

    monkeypatch.setattr(run, "cases", cases)
    monkeypatch.setattr(run, "CHUNK", 3)
    run.run(7, 3, tmp_path / "journal.json")
    total = run.run(7, 8, tmp_path / "journal.json")
    assert asked == [(0, 3), (3, 6), (6, 8)]
    assert total.kinds["k"] == run.Tally(8, 0, 7, 0.1, 2.0) and total.failures == [[1, "k", "wrong", "why"]]
    text = table(total, [])
    assert "| in all | 8 | 0 | 7 | 1 | 0.10 s | 2 MB |" in text and "case 1 (k): wrong: `why`" in text
    run.run(8, 3, tmp_path / "journal.json")
    assert asked[-1] == (0, 3)  # another seed, from the beginning


def test_every_target_of_guided_fuzzing_reads_what_it_begins_with():
    made = targets()
    assert tuple(made) == NAMES
    for read, originals in made.values():
        for data in originals:
            try:
                read(data)
            except LdmError as error:
                assert "no tensors with names" not in str(error)
