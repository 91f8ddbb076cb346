r"""Helpers that both grammars use to combine words."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Word = TypeVar("Word")


def pick(words: Sequence[Word], rng: np.random.Generator) -> Word:
    """One of the words; the first, which is the usual one, three times as often as each of the others."""
    return words[max(0, int(rng.integers(len(words) + 2)) - 2)]


def maybe(words: Sequence[str], chance: float, rng: np.random.Generator) -> str:
    """One of the words, or with probability 1 - chance none."""
    return pick(words, rng) if rng.random() < chance else ""


def shuffled(parts: list[str], rng: np.random.Generator) -> list[str]:
    """The parts in random order."""
    return [parts[i] for i in rng.permutation(len(parts))]


def join(*parts: str) -> str:
    """The non-empty parts, joined by spaces."""
    return " ".join(part for part in parts if part)


def listed(phrases: Sequence[str], conjunction: str) -> str:
    """The phrases as a list: "a, b and c"."""
    return join(", ".join(phrases[:-1]), conjunction if len(phrases) > 1 else "", phrases[-1])
