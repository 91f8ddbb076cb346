r"""A measured figure beside its goal, and the table of all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    r"""One number: what was measured, in which unit, and what it should be at least (None: no goal)."""

    chapter: str
    name: str
    value: float
    unit: str = ""  # "%" for shares, which are kept in [0, 1] and only printed as per cent
    goal: float | None = None

    @property
    def met(self) -> bool | None:
        r"""Is the goal reached? None where there is none."""
        return None if self.goal is None else self.value >= self.goal

    def printed(self, value: float) -> str:
        return f"{100 * value:.2f} %" if self.unit == "%" else f"{value:.3f} {self.unit}".rstrip()


def table(figures: Sequence[Figure]) -> str:
    r"""Aligned columns, a blank line between chapters: name, value, goal, and whether it is met."""
    wide = max(len(figure.name) for figure in figures)
    lines: list[str] = []
    for i, figure in enumerate(figures):
        if i == 0 or figures[i - 1].chapter != figure.chapter:
            lines += ([""] if lines else []) + [figure.chapter]
        goal = "" if figure.goal is None else f">= {figure.printed(figure.goal)}"
        met = {None: "", True: "met", False: "NOT MET"}[figure.met]
        line = f"  {figure.name:<{wide}}  {figure.printed(figure.value):>11}  {goal:<11}  {met}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def as_json(figures: Sequence[Figure]) -> str:
    r"""A list of objects, for machines."""
    return json.dumps([asdict(figure) | {"met": figure.met} for figure in figures], indent=2) + "\n"
