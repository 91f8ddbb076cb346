"""An exercise: a function of this package, its tests, hints, and the mistakes that people typically make.

`exercises.json` lists them. The hints come in steps: an idea, the formula in words, almost the code. Each
mistake has a description and changes to the live function that make it:

    "divides by d instead of sqrt(d)": {"** -0.5": "** -1.0"}
"""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ldm.chapters import reading_order
from ldm.errors import LdmError


@dataclass(frozen=True)
class Mistake:
    """A typical wrong answer, made from the live code by replacing each passage wherever it occurs."""

    description: str  # continues a sentence that begins with "This"
    changes: dict[str, str]


@dataclass(frozen=True)
class Exercise:
    """Write `function` of `module` so that `tests`, named as in pytest, pass."""

    name: str
    task: str
    module: str
    function: str  # with its class for a method: "FeedForward.forward"
    tests: tuple[str, ...]
    hints: tuple[str, ...]
    mistakes: tuple[Mistake, ...]

    @property
    def file(self) -> str:
        """The function's file relative to the repository's root: "ldm/nn/attention.py"."""
        return self.module.replace(".", "/") + ".py"


def _exercise(entry: dict[str, Any]) -> Exercise:
    mistakes = tuple(Mistake(*item) for item in entry["mistakes"].items())
    name, task, module, function = (entry[key] for key in ("name", "task", "module", "function"))
    return Exercise(
        name, task, module, function, tuple(entry["tests"]), tuple(entry.get("hints", ())), mistakes
    )


_ENTRIES = json.loads((Path(__file__).parent / "exercises.json").read_text(encoding="utf-8"))
_PLACE = {module: i for i, module in enumerate(reading_order())}
# In the order of the chapters.
EXERCISES = {e.name: e for e in sorted(map(_exercise, _ENTRIES), key=lambda e: _PLACE[e.module])}


def find_exercise(name: str) -> Exercise:
    """The exercise of this name. Raises `LdmError` if there is none."""
    if name not in EXERCISES:
        near = get_close_matches(name, EXERCISES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(EXERCISES)}"
        raise LdmError(f"exercise {name!r}; {hint}")
    return EXERCISES[name]


def exercises_in(module: str) -> list[Exercise]:
    """The exercises whose function is in this module ("ldm.nn.attention")."""
    return [exercise for exercise in EXERCISES.values() if exercise.module == module]
