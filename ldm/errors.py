"""The one family of errors that this project raises on purpose."""

import reprlib
from typing import Any


class LdmError(Exception):
    """Something the caller can put right.

    The message says what was got, what was expected and what to do. The command line prints it as one
    line; anything that is *not* an `LdmError` is a bug of ours, or the machine's own trouble (an `OSError`).
    """


def shown(value: Any) -> str:
    """A value as an error message shows it: like `repr`, but cut to what fits into a line."""
    try:
        text = _REPR.repr(value)
    except (ValueError, RecursionError):  # a number of more than 4,300 digits, say
        return f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= 200 else text[:200] + "..."


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 100
_REPR.maxlist = _REPR.maxtuple = 10
_REPR.maxlevel = 3


def printable(text: str) -> str:
    r"""Text that is one line and cannot drive a terminal: a line end becomes `\n`, an escape `\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
