"""What was measured, as a table to read and as JSON to keep."""

import json
from collections.abc import Mapping
from typing import Any

from ldm.bench.compare import OURS, REFERENCE, Measured, middle
from ldm.bench.rows import CPU_ROWS, CUDA_ROWS, OURS_ALONE, ROWS, Row, reached

NOTHING, MISSING = "-", "not measured"


def lines(found: Measured) -> list[dict[str, Any]]:
    """For each row of the table: both medians, what the goal is compared with, and whether it was reached."""
    result = []
    for row in ROWS:
        ours, reference = (middle(found, row.case, arm, row.number) for arm in (OURS, REFERENCE))
        ratio = ours / reference if ours is not None and reference else None
        value = ratio if row.kind == "ratio" else ours
        result.append(
            {"row": row, "ours": ours, "reference": reference, "ratio": ratio, "reached": reached(row, value)}
        )
    return result


def markdown(found: Measured, machine: Mapping[str, object], quick: bool) -> str:
    """A page: the machine, and a row for everything, with its goal and what was measured."""
    about = ", ".join(f"{name}: {value}" for name, value in machine.items())
    head = [
        "# Speed and memory",
        "",
        "Printed by `make bench`: medians over fresh processes, in turns with diffusers as it is by default.",
        "A ratio is ours divided by theirs. The goals are for 512x512 pixels on two cores with AMX.",
        "",
        *(
            [
                "**A quick run: a narrow model, small pictures, one process each. It shows that all works.**",
                "",
            ]
            * quick
        ),
        about + ".",
        "",
    ]
    names = [
        f"| what | goal | stretch | {REFERENCE} | {OURS} | ratio | reached |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = {line["row"]: _line(line) for line in lines(found)}
    cpu, card = ([rows[row] for row in part] for part in (CPU_ROWS, CUDA_ROWS))
    return "\n".join([*head, *names, *cpu, "", "On a CUDA card:", "", *names, *card]) + "\n"


def _line(line: Mapping[str, Any]) -> str:
    row: Row = line["row"]
    cells = [
        row.what,
        _goal(row, row.goal),
        _goal(row, row.stretch),
        NOTHING if row.case in OURS_ALONE else _number(line["reference"], row.unit),
        _number(line["ours"], row.unit),
        NOTHING if line["ratio"] is None else f"{line['ratio']:.2f}x",
        line["reached"] or NOTHING,
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
            "what": line["row"].what,
            "unit": line["row"].unit,
            "goal": line["row"].goal,
            "stretch": line["row"].stretch,
            OURS: line["ours"],
            REFERENCE: line["reference"],
            "ratio": line["ratio"],
            "reached": line["reached"],
        }
        for line in lines(found)
    ]
    return (
        json.dumps({"machine": machine, "quick": quick, "table": table, "processes": found}, indent=2) + "\n"
    )
