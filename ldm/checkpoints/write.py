r"""A model written to this project's layout (`convert`), and to those of others (`export`).

Both take any form of checkpoint that can be opened, and neither changes a number: there and back is the identity.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.checkpoints.collect import Collected, collect
from ldm.checkpoints.diffusers_folder import FOLDERS, STEMS, is_diffusers_folder
from ldm.checkpoints.folder import write_config
from ldm.checkpoints.names import Layout, rename
from ldm.checkpoints.opening import CONFIG, TOKENIZER, is_own_folder
from ldm.checkpoints.safetensors_file import write_safetensors
from ldm.checkpoints.settings import settings_of
from ldm.checkpoints.tokenizer_io import tokenizer_text
from ldm.checkpoints.validate import check_finite, part_rows
from ldm.config import Config
from ldm.errors import LdmError
from ldm.files.leftovers import sweep
from ldm.files.read_write import atomic_folder, atomic_path, writable
from ldm.text.tokenizer import Tokenizer


def convert(source: Path, folder: Path, **options: Any) -> tuple[str, ...]:
    """Write a checkpoint to a folder in our own layout; options, result and errors are those of `export`."""
    return export(source, folder, "ours", **options)


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
    """Write a model in our layout ("ours"), as a diffusers folder or as one file in the original layout ("compvis").

    Returns the names of what is not kept. `out` is a folder, or for "compvis" a .safetensors file. The numbers stay as
    they are unless another `dtype` is asked for. What exists is kept unless `force` is given. Raises `LdmError` for
    what is not a checkpoint, for NaN in it, and for a full disk; then, as after a kill, there is nothing, or still the
    old model.
    """
    if to not in ("ours", "diffusers", "compvis"):
        raise LdmError(f"export to {to!r}; expected 'diffusers' or 'compvis'")
    if to == "compvis" and out.suffix != ".safetensors":
        raise LdmError(f"{out}: the original layout is one file; give a name that ends in .safetensors")
    made = collect(source, config, weights, prediction, vae)
    for part, tensors in made.tensors.items():
        check_finite(tensors, made.checkpoint.parts[part].source, part)
    if to == "compvis":
        sweep(out)
        if out.exists() and not force:
            raise LdmError(f"{out} exists and is kept; to replace it, use force=True (--force)")
        _write_compvis(out, made, dtype)
        return made.dropped
    with _replacing(out, force) as place:
        if to == "diffusers":
            write_diffusers(place, made.model.config, made.model.tokenizer, made.tensors, dtype)
        else:
            write_config(place, _without_images(made.model.config))
            made.model.tokenizer.save(place / "tokenizer")
            for part, tensors in made.tensors.items():
                write_safetensors(place / f"{part}.safetensors", tensors, dtype=dtype)
    return made.dropped


@contextmanager
def _replacing(folder: Path, force: bool) -> Iterator[Path]:
    """A temporary folder that replaces `folder` at the end. Never one that holds something else."""
    with writable(folder):
        sweep(folder)
        if folder.exists():
            is_model = is_own_folder(folder) or is_diffusers_folder(folder)
            if not (folder.is_dir() and (is_model or not any(folder.iterdir()))):
                raise LdmError(f"{folder} exists and is kept; it holds no model: give another name")
            if not force:
                raise LdmError(f"{folder} exists and is kept; to replace it, use force=True (--force)")
        with atomic_folder(folder) as place:
            yield place


def _without_images(config: Config) -> Config:
    """The config without CLIP's image half, which generating does not need and no layout of a checkpoint has."""
    return replace(config, image=None, embedding_width=None)


def _is_second(config: Config) -> bool:
    """Whether it is of Stable Diffusion 2's kind, whose files have linear projections and OpenCLIP's names."""
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
    for name, table in settings_of(config, linear_projection=second).items():
        file = {"": "model_index.json", "scheduler": "scheduler_config.json"}.get(name, "config.json")
        with atomic_path(folder / name / file) as path:
            path.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    tokenizer.save(folder / "tokenizer")
    for part, own in tensors.items():
        rows = part_rows(part, getattr(config, part), second)
        path = folder / FOLDERS[part] / STEMS[part][0]
        # transformers opens only files that say which library wrote them
        write_safetensors(path, rename(own, rows, "diffusers"), {"format": "pt"}, dtype)


def _write_compvis(out: Path, made: Collected, dtype: torch.dtype | None) -> None:
    config, second = made.model.config, _is_second(made.model.config)
    homes: dict[str, tuple[str, Layout]] = {
        "unet": ("model.diffusion_model.", "compvis"),
        "vae": ("first_stage_model.", "compvis"),
        # Version 1 took transformers' text encoder as it was, names and all.
        "text": ("cond_stage_model.transformer.", "diffusers"),
    }
    if second:
        homes["text"] = ("cond_stage_model.model.", "compvis")
    tensors: dict[str, Tensor] = {}
    for part, (prefix, layout) in homes.items():
        own = rename(made.tensors[part], part_rows(part, getattr(config, part), second), layout)
        tensors |= {prefix + name: tensor for name, tensor in own.items()}
    metadata = {
        "format": "pt",
        CONFIG: _without_images(config).to_json(),
        TOKENIZER: tokenizer_text(made.model.tokenizer),
    }
    write_safetensors(out, tensors, metadata, dtype)
