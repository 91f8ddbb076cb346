r"""The results of the comparison as a Markdown page and as a table for JSON."""

from collections.abc import Sequence
from dataclasses import dataclass

from ldm.lab.bench.fresh import is_cuda
from ldm.lab.bench.run import NOT_INSTALLED, OURS, Run, heading, layer_tables, quantity
from tests.lab.bench.rows import (
    BY_OPENVINO,
    BY_OPENVINO_ALONE,
    CPU_ROWS,
    CUDA_ROWS,
    GAIN_ROWS,
    OURS_ALONE,
    ROWS,
    Row,
    is_gain,
    reached,
)

DIFFUSERS, OPENVINO, WITHOUT = "diffusers", "OpenVINO", "without"
REFERENCES = (DIFFUSERS, OPENVINO)


def others(case: str) -> tuple[str, ...]:
    r"""What ours is compared with."""
    if is_gain(case):
        return (WITHOUT,)
    if case in OURS_ALONE:
        return ()
    if case in BY_OPENVINO_ALONE:
        return (OPENVINO,)
    return REFERENCES if case in BY_OPENVINO else (DIFFUSERS,)


@dataclass(frozen=True)
class Line:
    r"""A row of the table with its results: our median, and those of what it is compared with."""

    row: Row
    ours: float | None
    others: dict[str, float | None]

    @property
    def best(self) -> float | None:
        r"""The best of what ours is compared with, as far as it was measured."""
        values = [value for value in self.others.values() if value is not None]
        return (max if self.row.more_is_better else min)(values, default=None)

    @property
    def ratio(self) -> float | None:
        return self.ours / self.best if self.ours is not None and self.best else None

    @property
    def reached(self) -> str:
        r"""The verdict; a ratio gets one only if everything that it is meant against was measured."""
        if self.row.is_ratio and None in self.others.values():
            return ""
        return reached(self.row, self.ratio if self.row.is_ratio else self.ours)


def lines(run: Run) -> list[Line]:
    r"""A line for each row of the table, measured or not."""

    def median(row: Row, program: str) -> float | None:
        return run.median(row.case, program, row.number)

    return [
        Line(row, median(row, OURS), {name: median(row, name) for name in others(row.case)}) for row in ROWS
    ]


def markdown(runs: Sequence[Run]) -> str:
    r"""The page: for each run its machine and all rows, with goals and results."""
    page = [
        "# Speed and memory",
        "",
        "Printed by `make bench`: medians over fresh processes, in turns with diffusers in its default settings and",
        "with OpenVINO, which runs diffusers' networks converted for the CPU. A ratio is our number divided by the",
        "better of theirs. The goals are for 512x512 pixels on two cores; there is no verdict where one of the",
        "references was not measured. On a CPU without instructions for bfloat16, ldm computes in float32, and",
        "bfloat16 is not measured.",
        "",
        '`make bench ARGS="--only unet-bfloat16 --rounds 1"` measures single rows (the names are in `docs/bench.json`)',
        "and keeps the others.",
    ]
    for run in runs:
        page += ["", *_section(run)]
    if not any(map(_has_cuda, runs)):
        page += ["", "## A CUDA device", "", "Not measured: no machine had one."]
    return "\n".join(page) + "\n"


def _section(run: Run) -> list[str]:
    found = {line.row: line for line in lines(run)}

    def table(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
        head = ["what", "goal", "stretch", *names, OURS, "ratio", "reached"]
        return [_cells(head), "|---" * len(head) + "|", *(_line(found[row], names, run) for row in rows)]

    section = [
        *heading(run),
        *table(CPU_ROWS, REFERENCES),
        *layer_tables(run),
        "",
        "**The gain of each optimisation.** The same work without it and with it, in turns; [What makes it",
        "fast](fast.md) explains them.",
        "",
        *table(GAIN_ROWS, [WITHOUT]),
    ]
    if _has_cuda(run):
        section += ["", "**On the CUDA device.**", "", *table(CUDA_ROWS, [DIFFUSERS])]
    return section


def _has_cuda(run: Run) -> bool:
    return any(is_cuda(case) for case in run.results)


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line(line: Line, names: Sequence[str], run: Run) -> str:
    row = line.row
    cells = [
        row.what,
        _goal(row, row.goal),
        _goal(row, row.stretch),
        *(_other(line, name, run) for name in names),
        quantity(line.ours, row.unit),
        "-" if line.ratio is None else f"{line.ratio:.2f}x",
        line.reached or "-",
    ]
    return _cells(cells)


def _other(line: Line, name: str, run: Run) -> str:
    if name not in line.others:
        return "-"
    missing = line.others[name] is None and run.machine.get(name.lower()) == NOT_INSTALLED
    return NOT_INSTALLED if missing else quantity(line.others[name], line.row.unit)


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
            **line.others,
            "ratio": line.ratio,
            "reached": line.reached,
        }
        for line in lines(run)
    ]
