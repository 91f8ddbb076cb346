"""What was measured, as a table to read and as JSON to keep."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ldm.lab.bench.compare import OURS, REFERENCE, WITHOUT, Measured, middle, other
from ldm.lab.bench.rows import CPU_ROWS, CUDA_ROWS, GAIN_ROWS, ROWS, Row, on_card, reached

NOTHING, MISSING = "-", "not measured"


@dataclass(frozen=True)
class Run:
    """All that was measured on one machine."""

    machine: Mapping[str, object]
    quick: bool
    found: Measured


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


def markdown(runs: Sequence[Run]) -> str:
    """A page: for each run its machine, and a row for everything, with its goal and what was measured."""
    page = [
        "# Speed and memory",
        "",
        "Printed by `make bench`: medians over fresh processes, in turns with diffusers as it is by default.",
        "A ratio is ours divided by theirs. The goals are for 512x512 pixels on two cores of a CPU with matrix units",
        "for bfloat16 (AMX). Where a CPU has no instructions for it ldm computes in float32, and bfloat16 is not",
        "measured.",
    ]
    for run in runs:
        page += ["", *_section(run)]
    if not any(map(_on_card, runs)):
        page += ["", "## A CUDA card", "", "Not measured: no machine had one."]
    return "\n".join(page) + "\n"


def _section(run: Run) -> list[str]:
    """What was measured on one machine."""
    shown = {line.row: _line(line) for line in lines(run.found)}
    cpu, card, gains = ([shown[row] for row in part] for part in (CPU_ROWS, CUDA_ROWS, GAIN_ROWS))
    remark = "**A quick run: a narrow model, small pictures, one process each. It shows that all works.**"
    section = [
        f"## {run.machine['processor']}, bfloat16: {run.machine['bfloat16']}" + ", quick" * run.quick,
        "",
        *[remark, ""] * run.quick,
        ", ".join(f"{name}: {value}" for name, value in run.machine.items()) + ".",
        "",
        *_head(REFERENCE),
        *cpu,
        "",
        "**What each thing gives.** The same work without it and with it, in turns; [What makes it fast](fast.md) says",
        "how.",
        "",
        *_head(WITHOUT),
        *gains,
    ]
    if _on_card(run):
        section += ["", "**On the card.**", "", *_head(REFERENCE), *card]
    return section


def _on_card(run: Run) -> bool:
    return any(on_card(case) for case in run.found)


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


def as_json(runs: Sequence[Run]) -> str:
    """Everything: of each run the machine, the lines of the table, and what each single process found."""
    kept = [
        {"machine": run.machine, "quick": run.quick, "table": _table(run.found), "processes": run.found}
        for run in runs
    ]
    return json.dumps({"runs": kept}, indent=2) + "\n"


def from_json(text: str) -> list[Run]:
    """The runs that `as_json` wrote. Raises ValueError, TypeError or KeyError for anything else."""
    return [Run(kept["machine"], kept["quick"], kept["processes"]) for kept in json.loads(text)["runs"]]


def _table(found: Measured) -> list[dict[str, object]]:
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
        for line in lines(found)
    ]
