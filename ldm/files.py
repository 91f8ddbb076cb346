"""Files and folders are written whole or not at all: a reader never meets half of one."""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("ldm")


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
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=path.suffix)
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


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    r"""The same for a folder: give a temporary one, and put it in the place of `path` if the block ends well.

    To take the place of an older folder needs two renames. If the process dies between them, the older one is beside
    `path` under another name, and `sweep` brings it back.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path), suffix=".partial"))
    old = path.with_name(f"{_prefix(path)}old")
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    finally:
        _remove(temporary)
        if path.exists():
            _remove(old)


def sweep(path: str | os.PathLike[str]) -> list[Path]:
    r"""Remove what writers of `path` left beside it when they were killed; returns and logs what it was.

    Their names tell the process that made them: what a running process is still writing stays. An older folder that
    was moved aside for a new one that never came is put back.
    """
    path = Path(path)
    swept = []
    for left in sorted(path.parent.iterdir()) if path.parent.is_dir() else []:
        match = re.match(re.escape(f".{path.name}.") + r"(\d+)-", left.name)
        if match and not _is_running(int(match[1])):
            if left.name.endswith("-old") and not path.exists():
                os.replace(left, path)
                log.warning("%s was moved aside by a run that was cut short; it is back as %s", left, path)
            else:
                _remove(left)
                log.warning("removed %s, left behind by a run that was cut short", left)
            swept.append(left)
    return swept


def _prefix(path: Path) -> str:
    return f".{path.name}.{os.getpid()}-"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether there is such a process; where that cannot be asked, it may as well be."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)  # signal 0 is none: it only asks
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it runs, as somebody else
    return True


def _umask() -> int:
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    return mask
