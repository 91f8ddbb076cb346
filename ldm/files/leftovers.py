r"""Temporary files and folders, and what is left of them by processes that were killed while they wrote.

Beside `unet.safetensors` a writer makes `.unet.safetensors.ldm-x3k9_q2a.safetensors`, and holds a lock on it (flock).
The kernel releases the lock when the process ends, however it ends. So a temporary file that nobody has locked is a
left-over. A process id could not tell: ids are reused later, and containers start with the same ids again and again.

Where there are no such locks (on Windows and on some network file systems), nothing is ever taken for a left-over.
"""

import ctypes
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldm.notes import log

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MARK = ".ldm-"
OURS = re.compile(r"\.(?P<name>.+)\.ldm-[a-z0-9_]{8}(\..*)?")  # the random part as `tempfile` makes it
# Flags of Linux's renameat2.
NO_REPLACE, EXCHANGE = 1, 2
AT_FDCWD = -100


@contextmanager
def temporary(path: Path, folder: bool = False) -> Iterator[Path]:
    """A new, empty, locked file (of the same suffix) or folder beside `path`; removed when the block ends."""
    prefix = f".{path.name}{MARK}"
    while True:
        if folder:
            made = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix, suffix=".partial"))
        else:
            number, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
            os.close(number)
            made = Path(name)
        handle = _open(made)
        if handle is None and made.exists():  # this system has no locks
            break
        if handle is not None:
            if _lock_held(handle, made):
                break
            os.close(handle)  # a sweep removed it first: once more
    try:
        yield made
    finally:
        remove(made)
        if handle is not None:
            _unlock(handle)


def sweep(path: str | os.PathLike[str]) -> list[Path]:
    """Remove what killed writers of `path` left beside it; returns and logs what it was.

    An older folder that was moved aside for a new one that never came is put back.
    """
    return [left for left, to in _ours(Path(path).parent) if to == Path(path) and _sweep(left, to)]


def sweep_folder(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove what killed writers of anything in `folder` left there, as `sweep` does."""
    return [left for left, target in _ours(Path(folder)) if _sweep(left, target)]


def recover(path: Path) -> bool:
    """Put back the older folder of `path` that was moved aside for a new one. True if there was no folder, and now is.

    Only where a file system cannot exchange two folders is there a moment without any. If the writer is still at
    work, this waits for it.
    """
    if not path.name or os.path.lexists(path):
        return False
    for left, target in _ours(path.parent):
        if left.name.endswith(".old") and target == path:
            with locked(left):
                if not path.exists():
                    _sweep_locked(left, path)
    return path.exists()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on an existing file or folder. Waits for it; where there are no locks, it does without."""
    handle = _open(path)
    try:
        if handle is not None:
            _lock(handle, wait=True)
        yield
    finally:
        if handle is not None:
            _unlock(handle)


def exchange(one: Path, other: Path) -> bool:
    """Have two files or folders change places, in one indivisible step; False if that cannot be done here."""
    return _renameat2(one, other, EXCHANGE)


def rename_new(source: Path, target: Path) -> None:
    """Rename a file. Raises `FileExistsError` if there is a `target`: of several processes only one gets the name."""
    if _renameat2(source, target, NO_REPLACE):
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:  # a file system without links
        if os.path.lexists(target):  # another process may still come between; there is no better way
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        os.rename(source, target)
    else:
        os.unlink(source)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _renameat2(source: Path, target: Path, flag: int) -> bool:
    """Linux's rename with a flag; False where the system or the file system does not know it."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    rename = getattr(libc, "renameat2", None)
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))


def _ours(folder: Path) -> list[tuple[Path, Path]]:
    """All that has a name of ours, whether it is being written or left over, each with the path that it is for."""
    try:
        names = [match for path in sorted(folder.iterdir()) if (match := OURS.fullmatch(path.name))]
    except (OSError, ValueError):  # no folder, or one that may not be read
        return []
    return [(folder / match[0], folder / match["name"]) for match in names]


def _sweep(left: Path, target: Path) -> bool:
    handle = _open(left)
    if handle is None:
        return False
    try:
        return _lock(handle, wait=False) and _sweep_locked(left, target)
    except OSError:  # another user's, say: whoever needs the place will be told why they cannot have it
        return False
    finally:
        _unlock(handle)


def _sweep_locked(left: Path, target: Path) -> bool:
    if not left.exists():  # its writer finished, or another process swept it
        return False
    if left.name.endswith(".old") and not target.exists():
        os.rename(left, target)
        log.warning("%s was moved aside by a run that was cut short; it is back as %s", left, target)
    else:
        remove(left)
        log.warning("removed %s, left behind by a run that was cut short", left)
    return True


def _open(path: Path) -> int | None:
    """A handle to lock; None for a link, and where files or folders cannot be opened or locked."""
    if fcntl is None:
        return None
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None


def _lock(handle: int, wait: bool) -> bool:
    """Lock a file or folder; False if another process holds the lock, or there are no locks here."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _lock_held(handle: int, path: Path) -> bool:
    """Lock what was just made; False if a sweep took it for a left-over before it was locked."""
    _lock(handle, wait=True)
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _unlock(handle: int) -> None:
    """Release the lock and close the handle. Closing is not enough if a child process has inherited it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_UN)
    except OSError:
        pass  # no locks here
    os.close(handle)
