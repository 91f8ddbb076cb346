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
from ldm.config import Config, TextConfig
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
    unet: Path | None = None,
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
    made = collect(source, config, weights, prediction, vae, unet)
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


def _is_linear(config: Config) -> bool:
    """Whether its kind of files has linear maps around the U-Net's transformers, as Stable Diffusion 2 and XL do."""
    return config.text.output != "last"


def write_diffusers(
    folder: Path,
    config: Config,
    tokenizer: Tokenizer,
    tensors: Mapping[str, Mapping[str, Tensor]],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model's tensors, by part under our names, to an empty `folder` in diffusers' layout."""
    linear = _is_linear(config)
    for name, table in settings_of(config, linear).items():
        file = {"": "model_index.json", "scheduler": "scheduler_config.json"}.get(name, "config.json")
        with atomic_path(folder / _place(config, name) / file) as path:
            path.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    for part, own in tensors.items():
        sizes = getattr(config, part)
        place = folder / _place(config, FOLDERS[part])
        if isinstance(sizes, TextConfig):
            tokenizer.save(place.with_name(place.name.replace("text_encoder", "tokenizer")), sizes.pad)
        rows, path = part_rows(part, sizes, linear), place / STEMS[part][0]
        # transformers opens only files that say which library wrote them
        write_safetensors(path, rename(own, rows, "diffusers"), {"format": "pt"}, dtype)


def _place(config: Config, folder: str) -> str:
    """The folder of a network. The refiner's text encoder is the second one of Stable Diffusion XL, there too."""
    is_refiner = config.unet.added is not None and config.text_2 is None
    return "text_encoder_2" if is_refiner and folder == "text_encoder" else folder


def homes(config: Config) -> dict[str, tuple[str, Layout]]:
    """Where in an original file each network is: its prefix, and whose names it has.

    CLIP-L, transformers' text encoder, was taken as it was, names and all; OpenCLIP's likewise.
    """
    texts: dict[str, tuple[str, Layout]] = {"text": ("cond_stage_model.transformer.", "diffusers")}
    if config.text.output == "penultimate":
        texts = {"text": ("cond_stage_model.model.", "compvis")}
    if config.text.output == "hidden":
        texts = {"text": ("conditioner.embedders.0.model.", "compvis")}
    if config.text_2 is not None:
        texts = {
            "text": ("conditioner.embedders.0.transformer.", "diffusers"),
            "text_2": ("conditioner.embedders.1.model.", "compvis"),
        }
    return {
        "unet": ("model.diffusion_model.", "compvis"),
        "vae": ("first_stage_model.", "compvis"),
        **texts,
    }


def _write_compvis(out: Path, made: Collected, dtype: torch.dtype | None) -> None:
    config, linear = made.model.config, _is_linear(made.model.config)
    tensors: dict[str, Tensor] = {}
    for part, (prefix, layout) in homes(config).items():
        own = rename(made.tensors[part], part_rows(part, getattr(config, part), linear), layout)
        tensors |= {prefix + name: tensor for name, tensor in own.items()}
    metadata = {
        "format": "pt",
        CONFIG: _without_images(config).to_json(),
        TOKENIZER: tokenizer_text(made.model.tokenizer),
    }
    write_safetensors(out, tensors, metadata, dtype)
