r"""The table's rows: each has somebody who measures it, and goals are judged in the right direction."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from ldm.lab.bench.fresh import is_cuda
from ldm.lab.bench.run import repetitions
from tests.lab.bench import ours
from tests.lab.bench.rows import (
    BY_OPENVINO,
    BY_OPENVINO_ALONE,
    CUDA_ROWS,
    GOALS,
    OURS_ALONE,
    ROWS,
    Row,
    is_gain,
    reached,
)


def cases_of(name: str) -> set[str]:
    r"""The keys of CASES in a reference's arm, read and not imported: the reference may be missing."""
    path = Path(__file__).with_name(name)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and node.target.id == "CASES":
            return {key.value for key in node.value.keys}
    raise LookupError(f"{path} has no CASES")


def test_every_row_is_measured_by_the_arms_that_it_compares():
    assert {row.case for row in ROWS} == set(ours.CASES)
    assert cases_of("by_openvino.py") == {*BY_OPENVINO, *BY_OPENVINO_ALONE}
    without = {*OURS_ALONE, *BY_OPENVINO_ALONE}
    assert cases_of("theirs.py") == {case for case in ours.CASES if not is_gain(case)} - without
    for row in ROWS:
        assert row.goal is None or not is_gain(row.case)
    assert GOALS.keys() <= {(row.case, row.number) for row in ROWS}
    assert {row.case for row in CUDA_ROWS} == {case for case in ours.CASES if is_cuda(case)}


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.9, "no"), (0.8, "goal"), (0.7, "goal"), (0.6, "stretch"), (0.1, "stretch"), (None, "")],
)
def test_less_is_better(value, verdict):
    assert reached(Row("x", "x", "x", "s", 0.8, 0.6), value) == verdict


@pytest.mark.parametrize(("value", "verdict"), [(0.9, "no"), (1.0, "goal"), (1.2, "goal"), (1.3, "stretch")])
def test_of_a_rate_more_is_better(value, verdict):
    assert reached(Row("x", "x", "x", "/s", 1.0, 1.3), value) == verdict


def test_without_a_goal_there_is_nothing_to_reach():
    row = Row("x", "x", "x", "s", 0.8)
    assert reached(row, 0.1) == "goal" and reached(replace(row, goal=None), 0.1) == ""


def test_medians_are_of_five_processes_and_of_three_for_whole_images():
    assert {row.case: repetitions(row.case, False) for row in ROWS if repetitions(row.case, False) != 5} == {
        "paint-bfloat16": 3, "paint-float32": 3, "paint-int8": 3, "cuda-paint": 3,
        "layers-bfloat16": 3, "layers-float32": 3, "rounding": 1, "rounding-int8": 1, "seams": 1,
    }  # fmt: skip
    assert {repetitions(row.case, True) for row in ROWS} == {1}
