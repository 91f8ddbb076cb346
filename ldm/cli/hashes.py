"""Which bytes an image was made from: the SHA-256 of each file, as a PNG's record names it.

Hashing the four gigabytes of a checkpoint takes seconds. The result is cached, so that is done once for each file; and
it is done beside the sampling, because nothing needs it before the record is written.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

from ldm.checkpoints.finding import find
from ldm.checkpoints.tiny_file import is_tiny, tiny_files
from ldm.cli.output import tell
from ldm.errors import LdmError
from ldm.files.read_write import LARGEST_TEXT, atomic_path, read_json, sha256
from ldm.images.metadata import File

# The files that decide what a folder's model generates, and those of its VAE or U-Net alone.
PATTERNS = {
    "model": ("config.json", "tokenizer/*", "text.safetensors", "text_2.safetensors", "unet.safetensors",
              "vae.safetensors", "model_index.json", "*/*.json", "*/*.txt", "*/*.safetensors", "*/*.bin"),
    "vae": ("config.json", "vae.safetensors", "vae/*.*", "diffusion_pytorch_model*"),
    "unet": ("config.json", "unet/*.*", "diffusion_pytorch_model*"),
}  # fmt: skip
LARGE = 2**28  # bytes; the hashes of smaller files are not cached
PATIENCE = 0.5  # seconds to wait for hashes before it is said what for

T = TypeVar("T")


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Start computing hashes in a thread; returns a function that waits for them and returns `work`'s result.

    That function raises what `work` raised. A program that ends before it was called does not wait.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    def result() -> T:
        if not wait([future], PATIENCE).done:
            tell("waiting for the sha256 of the model's files, which is computed once")
        return future.result()

    threading.Thread(target=run, daemon=True).start()
    return result


def files_of(name: str, vae: str | None, unet: str | None, quiet: bool = False) -> dict[str, Any]:
    """The part of a `Record` that says which files the model was loaded from."""
    return {
        "model_files": hashed_files(name, "model", quiet),
        "vae_files": () if vae is None else hashed_files(vae, "vae", quiet),
        "unet_files": () if unet is None else hashed_files(unet, "unet", quiet),
    }


def hashed_files(name: str, kind: str, quiet: bool = False) -> tuple[File, ...]:
    """The files of a model or a VAE with their hashes: a single file, or those of a folder that match a pattern."""
    place = find(name)
    if place.is_file():
        files = tiny_files(place) if kind == "vae" and is_tiny(place) else (place,)
        return tuple(File(file.name, cached_sha256(file, quiet)) for file in files)
    paths = sorted({path for pattern in PATTERNS[kind] for path in place.glob(pattern)})
    return tuple(File(path.relative_to(place).as_posix(), cached_sha256(path, quiet)) for path in paths)


def cached_sha256(path: Path, quiet: bool = False) -> str:
    """The SHA-256 of a file; of a large one it is cached under path, size and modification time.

    Unless `quiet`, computing that of a large file is announced.
    """
    stat = path.stat()
    if stat.st_size < LARGE:
        return sha256(path)
    key = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    try:
        cache = dict(read_json(cache_file(), LARGEST_TEXT))
    except (LdmError, TypeError, ValueError):  # missing, or damaged and replaced
        cache = {}
    if isinstance(cache.get(key), str):
        return str(cache[key])
    if not quiet:
        tell(f"computing the sha256 of {path} ({stat.st_size / 1e9:.1f} GB) once")
    digest = sha256(path)
    try:
        with atomic_path(cache_file()) as temporary:
            temporary.write_text(json.dumps(cache | {key: digest}, indent=1), encoding="utf-8")
    except OSError:
        pass  # not writable: the hash is computed again next time
    return digest


def cache_file() -> Path:
    """`$XDG_CACHE_HOME/ldm/sha256.json`, usually in ~/.cache. It can be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "ldm" / "sha256.json"


def hashed(path: Path) -> File:
    """An init image, a mask or a config, as a record names it."""
    return File(str(path), sha256(path))
