r"""Where the checkpoint is: people often give a folder around it.

models--org--name/        the cache of the Hugging Face hub: a snapshot for each version, refs/main names one
    blobs/                the files, under their hashes
    refs/main
    snapshots/<commit>/   links into blobs/
download/                 a folder with one checkpoint in it, and a README
"""

import os
import stat
from pathlib import Path

from ldm.checkpoints.diffusers_folder import is_diffusers_folder
from ldm.errors import LdmError, some
from ldm.files.paths import why_unreadable
from ldm.files.read_write import read_text

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


def locate(place: Path) -> Path | None:
    """The checkpoint at a place, a file or a folder; None if nothing is there.

    Raises `LdmError` for what is there and leads to no checkpoint, or to several.
    """
    try:
        mode = os.stat(place).st_mode
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = why_unreadable(place, error)
        if isinstance(error, FileNotFoundError | NotADirectoryError) and "link" not in reason:
            return None
        raise LdmError(f"cannot read {place}: {reason}; give another file or folder") from error
    if not stat.S_ISDIR(mode):
        return place.parent if place.name == "model_index.json" else place
    try:
        if (place / "config.json").is_file() or is_diffusers_folder(place):
            return place
        return locate(_snapshot(place) or lone_file(place))
    except OSError as error:
        raise LdmError(f"cannot read {place}: {error.strerror or error}; give another path") from error


def _snapshot(folder: Path) -> Path | None:
    """The snapshot that a hub cache's folder of one model stands for; None if it is no such folder."""
    root = folder if folder.name == "snapshots" else folder / "snapshots"
    if not root.is_dir():
        return None
    main = root.parent / "refs" / "main"
    snapshots = sorted(place for place in root.iterdir() if place.is_dir())
    wanted = read_text(main, 1000).strip() if main.is_file() else ""
    found = [place for place in snapshots if place.name == wanted] or snapshots
    if len(found) != 1:
        names = some([place.name for place in snapshots]) or "nothing"
        raise LdmError(
            f"{folder} is a hub cache with {names} in snapshots/, and refs/main names none of them; fetch the model "
            "again, or give the snapshot's folder"
        )
    return found[0]


def lone_file(folder: Path) -> Path:
    """The only file in a folder that may be a checkpoint by its name. Raises `LdmError` if there is none, or more."""
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and not file.is_dir()
    )
    if (folder / "unet.safetensors") in files:
        raise LdmError(f"{folder} has no config.json, so the folder is incomplete; fetch or train it again")
    if not files:
        raise LdmError(
            f"{folder} is a folder with no checkpoint in it (no config.json, no model_index.json, no file in "
            f"{', '.join(SUFFIXES[:2])}); give another"
        )
    if len(files) > 1:
        raise LdmError(
            f"{folder} has {len(files)} checkpoints: {some([f.name for f in files])}; give one of them"
        )
    return files[0]


def hub_cache() -> Path:
    """The folder in which the hub's own tools keep what they have fetched."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub"))
