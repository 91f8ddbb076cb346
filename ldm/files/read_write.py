"""Files are written whole or not at all, and read only if they are regular files of a bounded size.

A path may lead anywhere: to `/dev/zero`, which never ends, to a named pipe, which waits forever when it is opened, or
to a file with a hole of 6 GB. Code that reads a file that somebody else may have made uses `open_regular`.
"""

import hashlib
import itertools
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from ldm.errors import LdmError
from ldm.files.leftovers import exchange, locked, remove, rename_new, temporary
from ldm.files.paths import why_unreadable

DEEPEST = 64  # nested tables and lists in a JSON file; tokenizer.json, the deepest known, has 6
LARGEST_CONFIG = 1_000_000  # bytes; Stable Diffusion's have a few thousand
LARGEST_TEXT = 16_000_000  # bytes of longer texts: a vocabulary, an index of shards, a log


def open_regular(path: str | os.PathLike[str], limit: int | None = None) -> BufferedReader:
    """Open a regular file of at most `limit` bytes for reading, in binary.

    Raises `LdmError` for a file that is missing, unreadable or larger, and for a folder, device, named pipe or socket.
    """
    try:
        _check_regular(path, os.stat(path).st_mode)  # before opening it: that may make a device do something
        # O_NONBLOCK: if a named pipe takes its place in between, opening does not wait for a writer.
        file = open(path, "rb", opener=lambda p, flags: os.open(p, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise LdmError(f"cannot read {path}: {why_unreadable(path, error)}") from error
    try:
        found = os.fstat(file.fileno())
        _check_regular(path, found.st_mode)
        if limit is not None and found.st_size > limit:
            raise LdmError(
                f"{path} has {found.st_size:,} bytes; expected at most {limit:,}; is it the right file?"
            )
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(path: str | os.PathLike[str], mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise LdmError(f"cannot read {path}: it is {kind}; expected a regular file")


def read_bounded(path: str | os.PathLike[str], limit: int) -> bytes:
    """The bytes of a regular file, if they are at most `limit`. Raises `LdmError` as `open_regular` does."""
    with open_regular(path, limit) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise LdmError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > limit:  # it has grown, or claims a size of 0, as files in /proc do
        raise LdmError(f"{path} has more than {limit:,} bytes, the most expected: is it the right file?")
    return data


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a regular file's bytes, in hexadecimal; 4 GB take about ten seconds. Raises as `read_bounded`."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        try:
            while block := file.read(1 << 20):
                digest.update(block)
        except OSError as error:
            raise LdmError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def read_text(path: str | os.PathLike[str], limit: int) -> str:
    """The text of a small UTF-8 file. Raises `LdmError` as `read_bounded` does, and for what is not UTF-8."""
    try:
        return read_bounded(path, limit).decode()
    except UnicodeDecodeError as error:
        raise LdmError(f"{path} is not a text in UTF-8 ({error}); fetch or save it again") from error


def read_json(path: str | os.PathLike[str], limit: int = LARGEST_CONFIG) -> Any:
    """What a small JSON file says. Raises `LdmError` as `read_bounded` does, and for what is not JSON."""
    return parse_json(read_bounded(path, limit), str(path))


def read_table(path: str | os.PathLike[str], limit: int = LARGEST_TEXT) -> dict[str, Any]:
    """The same for a file whose JSON is an object."""
    table = read_json(path, limit)
    if not isinstance(table, dict):
        raise LdmError(f"{path}: expected a JSON object, got {type(table).__name__}; fetch it again")
    return table


def parse_json(text: str | bytes, name: str) -> Any:
    """What a JSON text says. Raises `LdmError`, with `name`, for whatever cannot be parsed.

    That includes numbers of thousands of digits, and tables nested so deeply that the parser, or code that compares or
    prints the value later, would run out of stack.
    """
    try:
        value = json.loads(text)
        if _depth(value) > DEEPEST:
            raise RecursionError
        return value
    except RecursionError as error:
        raise LdmError(f"{name} is nested too deeply for JSON; fetch the original again") from error
    except ValueError as error:  # also UnicodeDecodeError
        raise LdmError(f"{name} is not valid JSON ({str(error)[:200]}); fetch the original again") from error


def _depth(value: Any) -> int:
    """How deeply tables and lists are nested."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


@contextmanager
def writable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says about a path that cannot be written into an `LdmError`."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise LdmError(f"cannot write {path}: {reason}; give another place") from error


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    r"""Give a temporary path beside `path`; rename it over `path` if the block ends well.

    The rename is one indivisible operation of the file system: whoever opens `path`, at any moment and after any
    crash, sees either the old file or the whole new one. If the block raises, `path` stays as it was.

        with atomic_path("config.json") as temporary:
            temporary.write_text("{}")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary(path) as made:
        yield made
        _finish(made)
        os.replace(made, path)


def write_new(folder: Path, names: Iterable[str], write: Callable[[Path], object]) -> Path | None:
    r"""Have `write` write a file in `folder`, under the first of the `names` that is free; None if all are taken.

    The whole file gets its name in one step, so two processes never get the same name, and neither leaves an empty
    file under it, whatever happens.
    """
    names = iter(names)
    path = folder / next(names)
    folder.mkdir(parents=True, exist_ok=True)
    with temporary(path) as made:
        write(made)
        _finish(made)
        for candidate in itertools.chain([path], (folder / name for name in names)):
            try:
                rename_new(made, candidate)
                return candidate
            except FileExistsError:
                continue
    return None


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    r"""The same for a folder: give a temporary one, and put it in the place of `path` if the block ends well.

    On Linux the two change places in one step. Elsewhere the older one is renamed, then the new one; if the process
    dies between these, the next reader (`recover`) or writer (`sweep`) puts the older one back.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary(path, folder=True) as made:
        yield made
        made.chmod(0o777 & ~_umask())
        if not os.path.lexists(path):
            os.replace(made, path)
        elif not exchange(made, path):  # else the older one is the temporary one now, and removed
            _replace_in_two_steps(made, path)


def _replace_in_two_steps(made: Path, path: Path) -> None:
    aside = made.with_suffix(".old")
    with locked(path):  # a reader that finds it moved aside waits for the new one
        os.replace(path, aside)
        try:
            os.replace(made, path)
        except BaseException:
            os.replace(aside, path)
            raise
        remove(aside)


def _finish(made: Path) -> None:
    with open(made, "r+b") as file:
        os.fsync(file.fileno())  # the bytes reach the disk before the name does
    made.chmod(0o666 & ~_umask())  # mkstemp makes private files; ours are ordinary ones


def _umask() -> int:
    mask = os.umask(0)  # reading it means setting it
    os.umask(mask)
    return mask
