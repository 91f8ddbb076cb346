r"""Turns, and medians."""

from pathlib import Path

import pytest
import torch

from ldm.errors import LdmError
from ldm.lab.bench import compare as compare_module
from ldm.lab.bench.compare import OURS, REFERENCE, WITHOUT, Turn, compare, middle, remaining, turns
from ldm.lab.bench.rows import CPU_ROWS, CUDA_ROWS, GAIN_ROWS, OURS_ALONE


@pytest.fixture(autouse=True)
def capable(monkeypatch):
    """A CPU that computes in bfloat16, wherever this runs."""
    monkeypatch.setattr(compare_module, "bfloat16_instructions", lambda: "AMX")


BOTH = {REFERENCE: "theirs", WITHOUT: "without", OURS: "ours"}


def test_the_arms_take_turns_in_every_case_and_the_reference_sits_out_what_is_ours_alone():
    order = turns(BOTH, quick=False)
    unet = [turn.arm for turn in order if turn.case == "unet-bfloat16"]
    assert unet == [REFERENCE, OURS] * 5
    assert [turn.arm for turn in order if turn.case == "paint-float32"] == [REFERENCE, OURS] * 3
    for case in OURS_ALONE:
        assert {turn.arm for turn in order if turn.case == case} == {OURS}
    cases = [turn.case for turn in order]
    assert all(
        case == other or case not in cases[i + 1 :] for i, (case, other) in enumerate(zip(cases, cases[1:]))
    )


def test_the_cases_of_a_card_are_measured_where_there_is_one(monkeypatch):
    for available in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        cases = {turn.case for turn in turns(BOTH, quick=True)}
        assert cases == {row.case for row in CPU_ROWS} | {row.case for row in CUDA_ROWS if available}


def test_bfloat16_is_not_measured_on_a_cpu_that_would_not_choose_it(monkeypatch):
    monkeypatch.setattr(compare_module, "bfloat16_instructions", lambda: None)
    cases = {turn.case for turn in turns(BOTH, quick=False)}
    assert {"unet-float32", "gain-heap-float32", "load", "train", "gain-load"} <= cases
    assert not {"unet-bfloat16", "rounding", "gain-heap", "gain-decode", "gain-batch"} & cases


def test_without_the_reference_our_arm_is_alone():
    assert {turn.arm for turn in turns({OURS: "ours"}, quick=True)} == {OURS}


def test_everything_that_is_measured_is_kept_and_progress_sees_every_turn(tmp_path):
    runs, seen, kept = [], [], []

    def run(arm: str, case: str, folder: Path, quick: bool):
        runs.append((arm, case))
        assert folder == tmp_path and not quick
        return {"seconds": float(len(runs))}

    def progress(order):
        seen.extend(order)
        return order

    found = compare(BOTH, tmp_path, False, progress=progress, keep=kept.append, run=run)
    assert (
        [(BOTH[turn.arm], turn.case) for turn in seen]
        == runs
        == [(BOTH[t.arm], t.case) for t in turns(BOTH, False)]
    )
    assert found["unet-bfloat16"][REFERENCE] == [{"seconds": float(n)} for n in (1, 3, 5, 7, 9)]
    assert middle(found, "unet-bfloat16", OURS, "seconds") == 6.0
    assert len(kept) == len(runs) and kept[-1] == found


def test_what_was_measured_before_is_not_measured_again(tmp_path):
    runs = []

    def run(arm: str, case: str, folder: Path, quick: bool):
        runs.append((arm, case))
        return {"seconds": 2.0}

    before = {"unet-bfloat16": {REFERENCE: [{"seconds": 9.0}] * 2, OURS: [{"seconds": 8.0}]}}
    found = compare(BOTH, tmp_path, False, before, run=run)
    assert len(runs) == len(turns(BOTH, False)) - 3 and runs[0] == ("ours", "unet-bfloat16")
    assert [n["seconds"] for n in found["unet-bfloat16"][REFERENCE]] == [9, 9, 2, 2, 2]
    order = turns(BOTH, False)
    assert remaining(order, found) == [] and remaining(order, {}) == order


def test_gains_are_measured_in_turns_without_the_thing_and_with_it_and_not_in_a_hurry():
    gains = {row.case for row in GAIN_ROWS}
    order = [turn for turn in turns(BOTH, quick=False) if turn.case in gains]
    assert order[:2] == [Turn("gain-load", WITHOUT), Turn("gain-load", OURS)] and len(order) == 10 * len(
        gains
    )
    assert not gains & {turn.case for turn in turns(BOTH, quick=True)}


def test_the_median_does_not_mind_one_slow_process_and_nothing_is_none():
    found = {"a": {OURS: [{"seconds": 1.0}, {"seconds": 99.0}, {"seconds": 2.0, "memory": 5.0}]}}
    assert middle(found, "a", OURS, "seconds") == 2.0 and middle(found, "a", OURS, "memory") == 5.0
    assert middle(found, "a", REFERENCE, "seconds") is None and middle(found, "b", OURS, "seconds") is None


def test_what_fails_is_told_and_the_rest_is_measured(tmp_path, caplog):
    def run(arm: str, case: str, folder: Path, quick: bool):
        if case == "generate":
            raise LdmError("measuring generate failed: no model 'tiny'")
        return {"seconds": 1.0}

    found = compare({OURS: "ours"}, tmp_path, True, run=run)
    assert (
        "generate" not in found and len(found) == len({turn.case for turn in turns({OURS: "ours"}, True)}) - 1
    )
    assert caplog.messages == ["measuring generate failed: no model 'tiny'"]
