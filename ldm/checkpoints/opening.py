r"""One door to every form of a checkpoint: a path becomes a `Checkpoint`, its tensors mapped and not yet read."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ldm.checkpoints.checkpoint import Checkpoint, Part, split
from ldm.checkpoints.diffusers_folder import is_diffusers_folder, read_folder, read_single
from ldm.checkpoints.formats import is_pickled, read_file
from ldm.checkpoints.locating import locate, lone_file
from ldm.checkpoints.safetensors_file import map_tensors, read_metadata
from ldm.errors import LdmError
from ldm.files.paths import expanded
from ldm.files.read_write import LARGEST_CONFIG, read_text

OWN_PARTS = ("text", "vae", "unet")  # of every model; Stable Diffusion XL also has "text_2"
CONFIG = "ldm.config"  # where a file that we wrote keeps its config.json, and its tokenizer
TOKENIZER = "ldm.tokenizer"


def is_own_folder(path: Path) -> bool:
    """Whether it is a model in this project's own layout (`ldm.checkpoints.folder`), complete or not."""
    return (path / "config.json").is_file() and any(
        (path / f"{name}.safetensors").is_file() for name in OWN_PARTS
    )


def open_checkpoint(path: Path, weights: str | None = None) -> Checkpoint:
    """What is at a path: a single file, a diffusers folder, a folder of one network, or our own layout.

    `weights`: "ema" or "live" of a file that has both. Raises `LdmError` that says what is missing, damaged, refused
    or not a checkpoint at all.
    """
    if weights not in (None, "ema", "live"):
        raise LdmError(f"weights {weights!r}; expected 'ema' or 'live'")
    found = locate(expanded(path))
    if found is None:
        raise LdmError(f"there is no {path}; give a checkpoint: a .safetensors or .ckpt file, or a folder")
    if not found.is_dir():
        metadata = {} if is_pickled(found) else read_metadata(found)
        return replace(split(found, read_file(found), weights), metadata=metadata)
    if is_own_folder(found):
        if weights is not None:
            raise LdmError(
                f"weights={weights!r}, but {found} is a folder of this project's, which has one set of weights; "
                "leave it out"
            )
        return _own_folder(found)
    if is_diffusers_folder(found):
        return read_folder(found, weights)
    # A config.json that is not diffusers' may also lie beside a checkpoint.
    return read_single(found) or open_checkpoint(lone_file(found), weights)


def _own_folder(folder: Path) -> Checkpoint:
    parts = {}
    for name in OWN_PARTS:
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            raise LdmError(f"{path} is missing; the model folder is incomplete, fetch or train it again")
        parts[name] = Part(map_tensors(path), "ours", path)
    second = folder / "text_2.safetensors"
    if second.is_file():
        parts["text_2"] = Part(map_tensors(second), "ours", second)
    config = read_text(folder / "config.json", LARGEST_CONFIG)
    return Checkpoint(folder, "folder of this project", parts, metadata={CONFIG: config})


def all_names(checkpoint: Checkpoint) -> list[str]:
    """Every name in the file that is not of a whole model's networks: those tell what else the file may be."""
    whole = all(name in checkpoint.parts for name in OWN_PARTS)
    inside = [] if whole else [name for part in checkpoint.parts.values() for name in part.tensors]
    return [*checkpoint.unknown, *inside]


def parameters(tensors: Mapping[str, Tensor]) -> int:
    """How many parameters a network has, without the tables that some files carry along."""
    return sum(t.numel() for name, t in tensors.items() if not name.endswith(("position_ids", "attn_mask")))
