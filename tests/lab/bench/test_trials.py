r"""The order of the trials, medians, and what is measured again."""

import pytest
import torch

from ldm.errors import LdmError
from ldm.lab.bench import run as run_module
from ldm.lab.bench.cases import ROWS as OUR_ROWS
from ldm.lab.bench.run import OURS, Run, Trial, measure_all, remaining, table, trials
from tests.lab.bench import __main__ as main
from tests.lab.bench.__main__ import all_trials
from tests.lab.bench.rows import CPU_ROWS, CUDA_ROWS, GAIN_ROWS, OURS_ALONE
from tests.lab.bench.table import DIFFUSERS, OPENVINO, WITHOUT

MODULES = {DIFFUSERS: "theirs", OPENVINO: "openvino", WITHOUT: "without", OURS: "ours"}


@pytest.fixture(autouse=True)
def capable(monkeypatch):
    r"""A CPU that computes in bfloat16, OpenVINO, and no model to write."""
    monkeypatch.setattr(main, "find_spec", lambda name: True)
    monkeypatch.setattr(run_module, "bfloat16_instructions", lambda: "AMX")
    monkeypatch.setattr(run_module, "write_model", lambda *_: None)


def measured(monkeypatch, numbers):
    r"""Replaces `measure`; returns the list of the (module, case) that were measured."""
    runs = []

    def measure(module, case, folder, quick):
        runs.append((module, case))
        return numbers(len(runs), case)

    monkeypatch.setattr(run_module, "measure", measure)
    return runs


def test_the_programs_take_turns_in_every_case_and_the_reference_sits_out_what_is_ours_alone():
    order = all_trials(quick=False)
    assert [t.program for t in order if t.case == "unet-bfloat16"] == [DIFFUSERS, OPENVINO, OURS] * 5
    assert [t.program for t in order if t.case == "paint-float32"] == [DIFFUSERS, OURS] * 3
    assert [t.program for t in order if t.case == "rounding"] == [DIFFUSERS, OURS]
    for case in OURS_ALONE:
        assert {t.program for t in order if t.case == case} == {OURS}
    cases = [t.case for t in order]
    assert all(
        case == other or case not in cases[i + 1 :] for i, (case, other) in enumerate(zip(cases, cases[1:]))
    )


def test_the_cases_of_a_cuda_device_are_measured_where_there_is_one(monkeypatch):
    for available in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        cases = {t.case for t in all_trials(quick=True)}
        assert cases == {row.case for row in CPU_ROWS} | {row.case for row in CUDA_ROWS if available}


def test_bfloat16_is_not_measured_on_a_cpu_that_would_not_choose_it(monkeypatch):
    monkeypatch.setattr(run_module, "bfloat16_instructions", lambda: None)
    cases = {t.case for t in all_trials(quick=False)}
    assert {"unet-float32", "gain-heap-float32", "load", "train", "gain-load"} <= cases
    assert not {"unet-bfloat16", "rounding", "gain-heap", "gain-decode", "gain-batch"} & cases


def test_gains_are_measured_without_the_thing_and_with_it_and_not_in_a_quick_run():
    gains = {row.case for row in GAIN_ROWS}
    order = [t for t in all_trials(quick=False) if t.case in gains]
    assert order[:2] == [Trial("gain-load", WITHOUT), Trial("gain-load", OURS)]
    assert len(order) == 10 * len(gains) and not gains & {t.case for t in all_trials(quick=True)}


def test_everything_that_is_measured_is_kept(monkeypatch, tmp_path):
    runs = measured(monkeypatch, lambda i, case: {"seconds": float(i)})
    order = all_trials(quick=False)
    [run] = measure_all(order, MODULES, False, tmp_path / "kept.json", table)
    assert runs == [(MODULES[t.program], t.case) for t in order] and remaining(order, run.results) == []
    assert run.results["unet-bfloat16"][DIFFUSERS] == [{"seconds": float(n)} for n in (1, 4, 7, 10, 13)]
    assert run.median("unet-bfloat16", OURS, "seconds") == 9.0
    assert run_module.read_runs(tmp_path / "kept.json") == [run]


def test_without_openvino_nobody_asks_for_it(monkeypatch):
    monkeypatch.setattr(main, "find_spec", lambda name: None)
    assert {t.program for t in all_trials(quick=False)} == {DIFFUSERS, WITHOUT, OURS}


def test_single_cases_can_be_measured_again_and_the_others_stay(monkeypatch, tmp_path):
    path, only = tmp_path / "kept.json", ["unet-float32", "gain-heap"]
    runs = measured(monkeypatch, lambda i, case: {"seconds": float(i)})
    measure_all(all_trials(False, ["start", "train"], 1), MODULES, False, path, table)
    order = all_trials(False, only, rounds=1)
    assert [(t.case, t.program) for t in order] == [
        *(("unet-float32", name) for name in (DIFFUSERS, OPENVINO, OURS)),
        *(("gain-heap", name) for name in (WITHOUT, OURS)),
    ]
    for _ in range(2):  # the second time everything was complete
        [run] = measure_all(order, MODULES, False, path, table)
    assert len(runs) == 3 + 5 + 5 and run.results["start"] == {OURS: [{"seconds": 1.0}]}
    assert run.results["gain-heap"] == {WITHOUT: [{"seconds": 12.0}], OURS: [{"seconds": 13.0}]}
    more = remaining(all_trials(False, only), run.results)
    assert len(more) == 4 * 5  # the other four rounds


def test_the_trials_that_are_left_are_in_order():
    order = [Trial("a", DIFFUSERS), Trial("a", OURS), Trial("a", DIFFUSERS), Trial("a", OURS)]
    assert remaining(order, {}) == order
    assert remaining(order, {"a": {DIFFUSERS: [{"seconds": 9.0}]}}) == order[1:]


def test_the_median_does_not_mind_one_slow_process_and_nothing_is_none():
    found = {"a": {OURS: [{"seconds": 1.0}, {"seconds": 99.0}, {"seconds": 2.0, "memory": 5.0}]}}
    run = Run({}, False, found)
    assert run.median("a", OURS, "seconds") == 2.0 and run.median("a", OURS, "memory") == 5.0
    assert run.median("a", DIFFUSERS, "seconds") is None and run.median("b", OURS, "seconds") is None


def test_what_fails_is_logged_and_the_rest_is_measured(monkeypatch, caplog):
    def numbers(i, case):
        if case == "generate":
            raise LdmError("measuring generate failed: no model 'tiny'")
        return {"seconds": 1.0}

    measured(monkeypatch, numbers)
    order = trials(OUR_ROWS, lambda case: [OURS], True)
    [run] = measure_all(order, MODULES, True, None, table)
    assert run.results.keys() == {t.case for t in order} - {"generate"}
    assert caplog.messages == ["measuring generate failed: no model 'tiny'"]
