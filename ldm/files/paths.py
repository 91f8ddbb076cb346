r"""Paths as people give them, and why one cannot be read.

`~` is the home folder, also where no shell has seen it: in Python, and after `--model=`. Nothing else is expanded: a
`$` in a path is a `$`.
"""

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with `~` and `~user` at its beginning replaced by a home folder, if there is one."""
    return Path(os.path.expanduser(path))


def why_unreadable(path: str | os.PathLike[str], error: Exception) -> str:
    """What the system says of a path that it refused; of a broken link, that it is one."""
    link = _broken_link(Path(path)) if isinstance(error, FileNotFoundError) else None
    if link is None:
        return getattr(error, "strerror", None) or str(error)
    what = "it is" if link == Path(path) else f"{link} is"
    return f"{what} a broken link: it points to {os.readlink(link)}, which does not exist"


def _broken_link(path: Path) -> Path | None:
    """The path or the folder above it that is a symbolic link to nothing."""
    return next((place for place in (path, *path.parents) if place.is_symlink() and not place.exists()), None)
