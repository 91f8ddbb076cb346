"""The arms, case by case and turn by turn."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from ldm.bench.fresh import Numbers, measure
from ldm.bench.rows import OURS_ALONE, ROWS, on_card, samples
from ldm.errors import LdmError

log = logging.getLogger("ldm")

OURS, REFERENCE = "ldm", "diffusers"
Measured = dict[str, dict[str, list[Numbers]]]  # by case, then by arm: what each of its processes found


@dataclass(frozen=True)
class Turn:
    """One process to start."""

    case: str
    arm: str


def turns(arms: Mapping[str, str], quick: bool) -> list[Turn]:
    """All processes, in their order. In a case the arms alternate, A B A B: what drifts in a machine, such as its
    temperature, then meets both alike. Cases for a card are left out where there is none."""
    order = []
    for case in dict.fromkeys(row.case for row in ROWS):
        if on_card(case) and not torch.cuda.is_available():
            continue
        both = [arm for arm in arms if arm == OURS or case not in OURS_ALONE]
        order += [Turn(case, arm) for _ in range(samples(case, quick)) for arm in both]
    return order


def compare(
    arms: Mapping[str, str],
    folder: Path,
    quick: bool,
    progress: Callable[[list[Turn]], Iterable[Turn]] = lambda order: order,
    run: Callable[[str, str, Path, bool], Numbers] = measure,
) -> Measured:
    """Measure every case. `arms` maps an arm's name to its module; `folder` holds the model; `progress` is handed the
    turns and hands them on. What fails is logged, and left out."""
    found: Measured = {}
    for turn in progress(turns(arms, quick)):
        try:
            numbers = run(arms[turn.arm], turn.case, folder, quick)
        except LdmError as error:  # the others are worth having
            log.warning("%s", error)
            continue
        found.setdefault(turn.case, {}).setdefault(turn.arm, []).append(numbers)
    return found


def middle(found: Measured, case: str, arm: str, number: str) -> float | None:
    """The median of a number over an arm's processes; None if it was not measured."""
    values = [numbers[number] for numbers in found.get(case, {}).get(arm, []) if number in numbers]
    return median(values) if values else None
