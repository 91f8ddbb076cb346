r"""A model written to this project's layout (`convert`), and to those of others (`export`).

Both take any form of checkpoint that can be opened, and neither changes a number: there and back is the identity.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ldm.checkpoints.collect import Gathered, gather
from ldm.checkpoints.diffusers_folder import FOLDERS, STEMS, is_diffusers_folder
from ldm.checkpoints.folder import write_config
from ldm.checkpoints.names import Layout, written
from ldm.checkpoints.opening import CONFIG, TOKENIZER, is_own_folder
from ldm.checkpoints.safetensors_file import write_safetensors
from ldm.checkpoints.settings import settings_of
from ldm.checkpoints.tokenizer_io import tokenizer_text
from ldm.checkpoints.validate import demand_finite, part_rows
from ldm.config import Config
from ldm.errors import LdmError
from ldm.files.leftovers import sweep
from ldm.files.read_write import atomic_folder, atomic_path
from ldm.text.tokenizer import Tokenizer


def convert(
    source: Path,
    folder: Path,
    *,
    config: Config | None = None,
    weights: str | None = None,
    prediction: str | None = None,
    vae: Path | None = None,
    dtype: torch.dtype | None = None,
    force: bool = False,
) -> tuple[str, ...]:
    """Write a checkpoint to our own layout; returns the names of what a model does not keep.

    The numbers stay as they are unless another `dtype` is asked for. An existing folder is kept unless `force` is
    given. Raises `LdmError` for a checkpoint that is none, for NaN in it, and for a disk that is full; then, as after
    a kill, there is no folder, or still the old one.
    """
    made = gather(source, config, weights, prediction, vae)
    for part, tensors in made.tensors.items():
        demand_finite(tensors, made.checkpoint.parts[part].source, part)
    with _replacing(folder, force) as place:
        write_config(place, _painter(made.config))
        made.tokenizer.save(place / "tokenizer")
        for part, tensors in made.tensors.items():
            write_safetensors(place / f"{part}.safetensors", tensors, dtype=dtype)
    return made.dropped


def export(
    source: Path,
    out: Path,
    to: str,
    *,
    config: Config | None = None,
    weights: str | None = None,
    prediction: str | None = None,
    vae: Path | None = None,
    dtype: torch.dtype | None = None,
    force: bool = False,
) -> tuple[str, ...]:
    """Write a model as a diffusers folder or as one file in the original layout; returns what is not kept.

    Options and errors are those of `convert`; `out` is a folder for "diffusers", a .safetensors file for "compvis".
    """
    if to not in ("diffusers", "compvis"):
        raise LdmError(f"export to {to!r}; expected 'diffusers' or 'compvis'")
    if to == "compvis" and out.suffix != ".safetensors":
        raise LdmError(f"{out}: the original layout is one file; give a name that ends in .safetensors")
    made = gather(source, config, weights, prediction, vae)
    if to == "diffusers":
        with _replacing(out, force) as place:
            write_diffusers(place, made.config, made.tokenizer, made.tensors, dtype)
    else:
        sweep(out)
        if out.exists() and not force:
            raise LdmError(f"{out} exists and is kept; to replace it, use force=True (--force)")
        _write_compvis(out, made, dtype)
    return made.dropped


@contextmanager
def _replacing(folder: Path, force: bool) -> Iterator[Path]:
    """A temporary folder that takes the place of `folder` at the end. Never of one that holds something else."""
    try:
        sweep(folder)
        if folder.exists():
            ours = folder.is_dir() and (
                is_own_folder(folder) or is_diffusers_folder(folder) or not any(folder.iterdir())
            )
            if not force or not ours:
                raise LdmError(
                    f"{folder} exists and is kept; "
                    + (
                        "to replace it, use force=True (--force)"
                        if ours
                        else "it holds no model: give another name"
                    )
                )
        with atomic_folder(folder) as place:
            yield place
    except OSError as error:
        raise LdmError(
            f"cannot write {folder}: {error.strerror or error}; make room or give another place"
        ) from error


def _painter(config: Config) -> Config:
    """The config of what painting needs: without CLIP's image half, which no layout of a checkpoint has."""
    return replace(config, image=None, embedding_width=None)


def _is_second(config: Config) -> bool:
    """Whether the model is of Stable Diffusion 2's kind, whose files have linear projections and OpenCLIP's names."""
    return config.text.output == "penultimate"


def write_diffusers(
    folder: Path,
    config: Config,
    tokenizer: Tokenizer,
    tensors: Mapping[str, Mapping[str, Tensor]],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model's tensors, by part under our names, to an empty `folder` in diffusers' layout."""
    second = _is_second(config)
    settings = settings_of(config, linear_projection=second)
    for name, table in settings.items():
        file = {"": "model_index.json", "scheduler": "scheduler_config.json"}.get(name, "config.json")
        with atomic_path(folder / name / file) as path:
            path.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    tokenizer.save(folder / "tokenizer")
    for part, own in tensors.items():
        rows = part_rows(part, getattr(config, part), second)
        path = folder / FOLDERS[part] / STEMS[part][0]
        # transformers opens only files that say which library wrote them
        write_safetensors(path, written(own, rows, "diffusers"), {"format": "pt"}, dtype)


def _write_compvis(out: Path, made: Gathered, dtype: torch.dtype | None) -> None:
    second = _is_second(made.config)
    homes: dict[str, tuple[str, Layout]] = {
        "unet": ("model.diffusion_model.", "compvis"),
        "vae": ("first_stage_model.", "compvis"),
        # Version 1 took transformers' text encoder as it was, names and all.
        "text": ("cond_stage_model.model.", "compvis")
        if second
        else ("cond_stage_model.transformer.", "diffusers"),
    }
    tensors = {}
    for part, (prefix, layout) in homes.items():
        rows = part_rows(part, getattr(made.config, part), second)
        for name, tensor in written(made.tensors[part], rows, layout).items():
            tensors[prefix + name] = tensor
    metadata = {
        "format": "pt",
        CONFIG: _painter(made.config).to_json(),
        TOKENIZER: tokenizer_text(made.tokenizer),
    }
    write_safetensors(out, tensors, metadata, dtype)
