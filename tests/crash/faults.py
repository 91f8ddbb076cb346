r"""A file system that fails at a chosen moment: at the n-th creation of a file, write, fsync or rename under a folder.

The way of SQLite's tests (sqlite.org/testing.html, "anomaly testing"): do a job with a fault at the first such moment,
then at the second, and so on until it ends without having met its fault; and after each, look whether all is well.
"""

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ldm.files.leftovers


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    r"""An open file that tells of its writes: of each, or of the first."""

    def __init__(self, file: Any, tell: Callable[[], None], each: bool):
        self.file, self.tell, self.each = file, tell, each

    def write(self, data: Any) -> int:
        if self.tell:
            tell = self.tell
            if not self.each:
                self.tell = None
            tell()
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


@contextmanager
def failing(at: int, fault: Callable[[], None], under: Path, each_write: bool = False) -> Iterator[list[str]]:
    r"""Inside, `fault` is called at moment number `at`, from 0; the list given tells all moments so far.

    A disk that is full stays full: after that moment, whatever needs room fails as well.
    """
    moments: list[str] = []

    def moment(kind: str, path: object) -> None:
        if path is None or str(path).startswith(f"{under}"):
            moments.append(f"{kind} {path}")
            if len(moments) == at + 1 or (len(moments) > at and kind != "rename"):
                fault()

    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        writes = not isinstance(file, int) and set(mode) & set("wax+")
        if writes:
            moment("open", file)
        result = plain["open"](file, mode, *arguments, **options)
        return Watched(result, lambda: moment("write", file), each_write) if writes else result

    def created(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            moment("create", path)
        return plain["os.open"](path, flags, *arguments, **options)

    def before(kind: str, name: str, index: int | None) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            moment(kind, None if index is None else arguments[index])
            # What the kernel was given it keeps, whatever happens to the process: nobody waits for the disk here.
            return None if name == "fsync" else plain[name](*arguments, **options)

        return call

    plain: dict[str, Any] = {
        "open": builtins.open,
        "os.open": os.open,
        "renameat2": ldm.files.leftovers._renameat2,
    }
    plain |= {name: getattr(os, name) for name in ("fsync", "mkdir", "replace", "rename", "link")}
    changes: list[tuple[Any, str, Any]] = [
        (builtins, "open", opened), (io, "open", opened), (os, "open", created),
        (os, "fsync", before("fsync", "fsync", None)), (os, "mkdir", before("mkdir", "mkdir", 0)),
        *((os, name, before("rename", name, 0)) for name in ("replace", "rename", "link")),
        (ldm.files.leftovers, "_renameat2", before("rename", "renameat2", 0)),
    ]  # fmt: skip
    originals = [(place, name, getattr(place, name)) for place, name, _ in changes]
    for place, name, other in changes:
        setattr(place, name, other)
    try:
        yield moments
    finally:
        for place, name, original in originals:
            setattr(place, name, original)


def killed_at(at: int, job: Callable[[], object], under: Path, each_write: bool = False) -> bool:
    r"""Do a job in a process of its own that is killed at that moment; False if it ends before."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            with failing(at, kill, under, each_write):
                job()
            code = 0
        finally:
            os._exit(code)  # whatever happened, this copy of the test run ends here
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0
