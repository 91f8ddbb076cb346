"""What an exercise is: a function of this package, the tests that hold it right, and how people get it wrong."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wrong:
    """A typical wrong answer: what it does, and how it is made from the live code.

    Each of `changes` is a passage of the function and what takes its place, wherever it stands in the function.
    """

    says: str  # goes on after "This": "divides by d instead of sqrt(d)"
    changes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Exercise:
    """`function` of `module` is to be written; `tests` are pytest's names for the tests that then must pass."""

    name: str
    task: str
    module: str
    function: str  # with its class, if it is a method: "FeedForward.forward"
    tests: tuple[str, ...]
    wrong: tuple[Wrong, ...]

    @property
    def file(self) -> str:
        """Where the function stands, from the repository's root: "ldm/nn/attention.py"."""
        return self.module.replace(".", "/") + ".py"


def wrong(says: str, *changes: str) -> Wrong:
    """A `Wrong` from pairs in a row: `wrong("adds it twice", "x", "2 * x", "y", "2 * y")`."""
    return Wrong(says, tuple(zip(changes[::2], changes[1::2], strict=True)))
