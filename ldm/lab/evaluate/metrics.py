r"""A metric beside its goal, and the table of all metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Metric:
    r"""One measured number with its unit and its goal, a minimum (None: no goal)."""

    chapter: str  # the heading in the table
    name: str
    value: float
    unit: str = ""  # "%" for fractions in [0, 1], which are printed as percentages
    goal: float | None = None

    @property
    def met(self) -> bool | None:
        r"""Whether the goal is reached; None without a goal."""
        return None if self.goal is None else self.value >= self.goal

    def printed(self, value: float) -> str:
        return f"{100 * value:.2f} %" if self.unit == "%" else f"{value:.3f} {self.unit}".rstrip()


def metrics_table(metrics: Sequence[Metric]) -> str:
    r"""Aligned columns with a blank line between chapters: name, value, goal, and whether it is met."""
    wide = max(len(metric.name) for metric in metrics)
    lines: list[str] = []
    for i, metric in enumerate(metrics):
        if i == 0 or metrics[i - 1].chapter != metric.chapter:
            lines += ([""] if lines else []) + [metric.chapter]
        goal = "" if metric.goal is None else f">= {metric.printed(metric.goal)}"
        met = {None: "", True: "met", False: "NOT MET"}[metric.met]
        line = f"  {metric.name:<{wide}}  {metric.printed(metric.value):>11}  {goal:<11}  {met}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def metrics_json(metrics: Sequence[Metric]) -> str:
    r"""A JSON list of objects, one per metric."""
    return json.dumps([asdict(metric) | {"met": metric.met} for metric in metrics], indent=2) + "\n"
