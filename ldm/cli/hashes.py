r"""The sha256 of large files, remembered.

A picture's record names the files of its model by their sha256, and to compute that of 4 GB takes seconds: longer than
some pictures. So it is computed once, and remembered in the user's cache with the file's size and time of change. While
both stay, the file counts as the same. (`ldm inspect` asks whether a download is whole, and always computes.)
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ldm.cli.output import tell
from ldm.errors import LdmError
from ldm.files.read_write import LARGEST_TEXT, atomic_path, read_json
from ldm.images.metadata import sha256

LARGE = 2**28  # bytes; what is smaller is read in a blink


def remembered_sha256(path: Path) -> str:
    """The sha256 of a file, from the cache if it is large and was not written to since."""
    stat = path.stat()
    if stat.st_size < LARGE:
        return sha256(path)
    state, key = [stat.st_size, stat.st_mtime_ns], str(path.resolve())
    match _read_cache().get(key):
        case [size, changed, str(digest)] if [size, changed] == state:
            return digest
    tell(f"computing the sha256 of {path} ({stat.st_size / 1e9:.1f} GB), and remembering it")
    digest = sha256(path)
    _write_cache(
        _read_cache() | {key: [*state, digest]}
    )  # read anew: another program may have written meanwhile
    return digest


def cache_file() -> Path:
    """`$XDG_CACHE_HOME/ldm/sha256.json`, usually in ~/.cache. It may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "ldm" / "sha256.json"


def _read_cache() -> dict[str, object]:
    try:
        cache = read_json(cache_file(), LARGEST_TEXT)
    except LdmError:
        return {}  # none yet, or a damaged one, which the next entry replaces
    return cache if isinstance(cache, dict) else {}


def _write_cache(cache: dict[str, object]) -> None:
    try:
        with atomic_path(cache_file()) as path:
            path.write_text(json.dumps(cache, indent=1), encoding="utf-8")
    except OSError:
        pass  # nowhere to write: it is computed again next time
