"""The arms, case by case and turn by turn."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from ldm.backend.cpu import bfloat16_instructions
from ldm.errors import LdmError
from ldm.lab.bench.fresh import Numbers, measure
from ldm.lab.bench.rows import OURS_ALONE, ROWS, is_gain, needs_bfloat16, on_card, samples

log = logging.getLogger("ldm")

OURS, REFERENCE, WITHOUT = "ldm", "diffusers", "without"
Measured = dict[str, dict[str, list[Numbers]]]  # by case, then by arm: what each of its processes found


@dataclass(frozen=True)
class Turn:
    """One process to start."""

    case: str
    arm: str


def turns(arms: Mapping[str, str], quick: bool) -> list[Turn]:
    """All processes, in their order. In a case the arms alternate, A B A B: what drifts in a machine, such as its
    temperature, then meets both alike. Left out are cases for a card where there is none, those of bfloat16 on a CPU
    that does not compute in it, and gains in a quick run."""
    order = []
    for case in dict.fromkeys(row.case for row in ROWS):
        if on_card(case) and not torch.cuda.is_available():
            continue
        if needs_bfloat16(case) and not bfloat16_instructions():
            continue
        if is_gain(case) and quick:
            continue
        both = [arm for arm in arms if arm in (OURS, other(case))]
        order += [Turn(case, arm) for _ in range(samples(case, quick)) for arm in both]
    return order


def other(case: str) -> str | None:
    """The arm that ours is compared with."""
    if is_gain(case):
        return WITHOUT
    return None if case in OURS_ALONE else REFERENCE


def remaining(order: list[Turn], found: Measured) -> list[Turn]:
    """The turns that are not measured yet."""
    done = Counter({Turn(case, arm): len(found[case][arm]) for case in found for arm in found[case]})
    left = []
    for turn in order:
        done[turn] -= 1
        if done[turn] < 0:
            left.append(turn)
    return left


def compare(
    arms: Mapping[str, str],
    folder: Path,
    quick: bool,
    found: Measured | None = None,
    progress: Callable[[list[Turn]], Iterable[Turn]] = lambda order: order,
    keep: Callable[[Measured], None] = lambda found: None,
    run: Callable[[str, str, Path, bool], Numbers] = measure,
) -> Measured:
    """Measure every case, but for what was `found` already.

    `arms` maps an arm's name to its module; `folder` holds the model; `progress` is handed the turns and hands them on;
    `keep` is told after each turn what was found so far. What fails is logged, and left out.
    """
    found = {} if found is None else found
    for turn in progress(remaining(turns(arms, quick), found)):
        try:
            numbers = run(arms[turn.arm], turn.case, folder, quick)
        except LdmError as error:  # the others are worth having
            log.warning("%s", error)
            continue
        found.setdefault(turn.case, {}).setdefault(turn.arm, []).append(numbers)
        keep(found)
    return found


def middle(found: Measured, case: str, arm: str, number: str) -> float | None:
    """The median of a number over an arm's processes; None if it was not measured."""
    values = [numbers[number] for numbers in found.get(case, {}).get(arm, []) if number in numbers]
    return median(values) if values else None
