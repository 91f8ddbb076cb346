"""The one family of errors that this project raises on purpose."""


class LdmError(Exception):
    """Something the caller can put right.

    The message says what was got, what was expected and what to do. The command line prints it as one
    line; anything that is *not* an `LdmError` is a bug of ours, or the machine's own trouble (an `OSError`).
    """
