"""The one type of error that this project raises on purpose."""

import reprlib
from collections.abc import Sequence
from typing import Any


class LdmError(Exception):
    """Something the caller can fix.

    The message says what was got, what was expected and what to do. The command line prints it as one line. Any other
    exception is a bug in this project, or comes from the system (an `OSError`).
    """


def shown(value: Any) -> str:
    """A value as an error message shows it: its `repr`, shortened to fit on a line."""
    try:
        text = _REPR.repr(value)
    except (ValueError, RecursionError):  # for example a number with more than 4,300 digits
        return f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= 200 else text[:200] + "..."


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 100
_REPR.maxlist = _REPR.maxtuple = 10
_REPR.maxlevel = 3


def some(names: Sequence[str], most: int = 10, longest: int = 200) -> str:
    """At most ten of the names, none of them long, and how many more there are."""
    cut = [name if len(name) <= longest else f"{name[:longest]}..." for name in names[:most]]
    return ", ".join(cut) + (f" and {len(names) - most} more" if len(names) > most else "")


def printable(text: str) -> str:
    r"""Text on one line that cannot control a terminal: a line end becomes `\n`, an escape `\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
