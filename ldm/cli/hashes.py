r"""SHA-256 hashes of large files, cached.

An image's record names the files of its model by their hashes. Hashing 4 GB takes seconds, so the hash of a large file
is kept in the user's cache under the file's path, size and modification time. (`ldm inspect` always computes it.)
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ldm.cli.output import tell
from ldm.errors import LdmError
from ldm.files.read_write import LARGEST_TEXT, atomic_path, read_json
from ldm.images.metadata import sha256

LARGE = 2**28  # bytes; smaller files are hashed each time


def cached_sha256(path: Path) -> str:
    """The SHA-256 of a file, from the cache if the file is large and has not changed."""
    stat = path.stat()
    if stat.st_size < LARGE:
        return sha256(path)
    key = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    if not isinstance(known := _read_cache().get(key), str):
        tell(f"computing the sha256 of {path} ({stat.st_size / 1e9:.1f} GB) once")
        known = sha256(path)
        try:
            with atomic_path(cache_file()) as temporary:  # read anew: another process may have written
                temporary.write_text(json.dumps(_read_cache() | {key: known}, indent=1), encoding="utf-8")
        except OSError:
            pass  # not writable: the hash is computed again next time
    return known


def cache_file() -> Path:
    """`$XDG_CACHE_HOME/ldm/sha256.json`, usually in ~/.cache. It can be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "ldm" / "sha256.json"


def _read_cache() -> dict[str, object]:
    try:
        cache = read_json(cache_file(), LARGEST_TEXT)
    except LdmError:
        return {}  # missing, or damaged and replaced by the next entry
    return cache if isinstance(cache, dict) else {}
