r"""What both grammars need to put words together."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Word = TypeVar("Word")


def pick(words: Sequence[Word], rng: np.random.Generator) -> Word:
    """One of the words, each as likely as any other."""
    return words[int(rng.integers(len(words)))]


def shuffled(parts: list[str], rng: np.random.Generator) -> list[str]:
    """The parts in random order."""
    return [parts[i] for i in rng.permutation(len(parts))]


def join(*parts: str) -> str:
    """The parts that are not empty, with spaces between."""
    return " ".join(part for part in parts if part)
