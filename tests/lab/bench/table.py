r"""The results of the comparison as a Markdown page and as a table for JSON."""

from collections.abc import Sequence
from dataclasses import dataclass

from ldm.lab.bench.fresh import is_cuda
from ldm.lab.bench.run import OURS, Run, heading, quantity
from tests.lab.bench.rows import CPU_ROWS, CUDA_ROWS, GAIN_ROWS, OURS_ALONE, ROWS, Row, is_gain, reached

REFERENCE, WITHOUT = "diffusers", "without"


def other(case: str) -> str | None:
    r"""What ours is compared with."""
    if is_gain(case):
        return WITHOUT
    return None if case in OURS_ALONE else REFERENCE


@dataclass(frozen=True)
class Line:
    r"""A row of the table with its results: both medians and their ratio."""

    row: Row
    other: str | None  # what ours is compared with
    ours: float | None
    theirs: float | None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    @property
    def reached(self) -> str:
        return reached(self.row, self.ratio if self.row.is_ratio else self.ours)


def lines(run: Run) -> list[Line]:
    r"""A line for each row of the table, measured or not."""
    result = []
    for row in ROWS:
        name = other(row.case)
        theirs = None if name is None else run.median(row.case, name, row.number)
        result.append(Line(row, name, run.median(row.case, OURS, row.number), theirs))
    return result


def markdown(runs: Sequence[Run]) -> str:
    r"""The page: for each run its machine and all rows, with goals and results."""
    page = [
        "# Speed and memory",
        "",
        "Printed by `make bench`: medians over fresh processes, in turns with diffusers in its default settings.",
        "A ratio is our number divided by theirs. The goals are for 512x512 pixels on two cores of a CPU with matrix",
        "units for bfloat16 (AMX). On a CPU without instructions for bfloat16, ldm computes in float32, and bfloat16",
        "is not measured.",
    ]
    for run in runs:
        page += ["", *_section(run)]
    if not any(map(_has_cuda, runs)):
        page += ["", "## A CUDA device", "", "Not measured: no machine had one."]
    return "\n".join(page) + "\n"


def _section(run: Run) -> list[str]:
    shown = {line.row: _line(line) for line in lines(run)}
    cpu, cuda, gains = ([shown[row] for row in part] for part in (CPU_ROWS, CUDA_ROWS, GAIN_ROWS))
    section = [
        *heading(run),
        *_head(REFERENCE),
        *cpu,
        "",
        "**The gain of each optimisation.** The same work without it and with it, in turns; [What makes it",
        "fast](fast.md) explains them.",
        "",
        *_head(WITHOUT),
        *gains,
    ]
    if _has_cuda(run):
        section += ["", "**On the CUDA device.**", "", *_head(REFERENCE), *cuda]
    return section


def _has_cuda(run: Run) -> bool:
    return any(is_cuda(case) for case in run.results)


def _head(other: str) -> list[str]:
    return [
        f"| what | goal | stretch | {other} | {OURS} | ratio | reached |",
        "|---|---|---|---|---|---|---|",
    ]


def _line(line: Line) -> str:
    row = line.row
    cells = [
        row.what,
        _goal(row, row.goal),
        _goal(row, row.stretch),
        "-" if line.other is None else quantity(line.theirs, row.unit),
        quantity(line.ours, row.unit),
        "-" if line.ratio is None else f"{line.ratio:.2f}x",
        line.reached or "-",
    ]
    return f"| {' | '.join(cells)} |"


def _goal(row: Row, goal: float | None) -> str:
    if goal is None:
        return "-"
    sign = ">=" if row.more_is_better else "<="
    return f"{sign} {goal:.2f}x" if row.is_ratio else f"{sign} {goal:g} {row.unit}"


def table(run: Run) -> list[dict[str, object]]:
    r"""The lines of the page, for JSON."""
    return [
        {
            "what": line.row.what,
            "case": line.row.case,
            "unit": line.row.unit,
            "goal": line.row.goal,
            "stretch": line.row.stretch,
            OURS: line.ours,
            **({} if line.other is None else {line.other: line.theirs}),
            "ratio": line.ratio,
            "reached": line.reached,
        }
        for line in lines(run)
    ]
