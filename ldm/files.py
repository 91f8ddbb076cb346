"""Files are written whole or not at all: a reader never meets half a file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    r"""Give a temporary path beside `path`; rename it over `path` if the block ends well.

    The rename is one indivisible operation of the file system, so whoever opens `path`, at any moment and
    after any crash, sees either the old file or the whole new one. If the block raises, the temporary file
    is removed and `path` is left as it was.

        with atomic_path("config.json") as temporary:
            temporary.write_text("{}")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())  # the bytes reach the disk before the name does
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; ours are ordinary ones
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    return mask
