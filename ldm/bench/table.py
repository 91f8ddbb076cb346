"""What was measured, as a table to read and as JSON to keep."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ldm.bench.compare import OURS, REFERENCE, WITHOUT, Measured, middle, other
from ldm.bench.rows import CPU_ROWS, CUDA_ROWS, GAIN_ROWS, ROWS, Row, reached

NOTHING, MISSING = "-", "not measured"


@dataclass(frozen=True)
class Line:
    """A row of the table with what was found: both medians, and ours divided by the other arm's."""

    row: Row
    other: str | None  # the arm that ours is compared with
    ours: float | None
    theirs: float | None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    @property
    def reached(self) -> str:
        return reached(self.row, self.ratio if self.row.kind == "ratio" else self.ours)


def lines(found: Measured) -> list[Line]:
    """A line for each row of the table, measured or not."""
    result = []
    for row in ROWS:
        arm = other(row.case)
        theirs = None if arm is None else middle(found, row.case, arm, row.number)
        result.append(Line(row, arm, middle(found, row.case, OURS, row.number), theirs))
    return result


def markdown(found: Measured, machine: Mapping[str, object], quick: bool) -> str:
    """A page: the machine, and a row for everything, with its goal and what was measured."""
    remark = "**A quick run: a narrow model, small pictures, one process each. It shows that all works.**"
    shown = {line.row: _line(line) for line in lines(found)}
    cpu, card, gains = ([shown[row] for row in part] for part in (CPU_ROWS, CUDA_ROWS, GAIN_ROWS))
    page = [
        "# Speed and memory",
        "",
        "Printed by `make bench`: medians over fresh processes, in turns with diffusers as it is by default.",
        "A ratio is ours divided by theirs. The goals are for 512x512 pixels on two cores with AMX.",
        "",
        *[remark, ""] * quick,
        ", ".join(f"{name}: {value}" for name, value in machine.items()) + ".",
        "",
        *_head(REFERENCE),
        *cpu,
        "",
        "## On a CUDA card",
        "",
        *_head(REFERENCE),
        *card,
        "",
        "## What each thing gives",
        "",
        "The same work without it and with it, in turns; [What makes it fast](fast.md) says how.",
        "",
        *_head(WITHOUT),
        *gains,
    ]
    return "\n".join(page) + "\n"


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
        NOTHING if line.other is None else _number(line.theirs, row.unit),
        _number(line.ours, row.unit),
        NOTHING if line.ratio is None else f"{line.ratio:.2f}x",
        line.reached or NOTHING,
    ]
    return f"| {' | '.join(cells)} |"


def _goal(row: Row, goal: float | None) -> str:
    if goal is None:
        return NOTHING
    sign = ">=" if row.more_is_better else "<="
    return f"{sign} {goal:.2f}x" if row.kind == "ratio" else f"{sign} {goal:g} {row.unit}"


def _number(value: float | None, unit: str) -> str:
    """Three digits: "1.43 s", "5610 MiB"."""
    if value is None:
        return MISSING
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def as_json(found: Measured, machine: Mapping[str, object], quick: bool) -> str:
    """Everything: the machine, the lines of the table, and what each single process found."""
    table = [
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
        for line in lines(found)
    ]
    return (
        json.dumps({"machine": machine, "quick": quick, "table": table, "processes": found}, indent=2) + "\n"
    )
