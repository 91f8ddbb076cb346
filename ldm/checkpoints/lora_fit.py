r"""Whether a LoRA fits a model, and for which base it was made if it does not.

The widths of Stable Diffusion 1, 2 and XL overlap, so some modules of a LoRA fit a model that it was not made for. What
decides is how many fit: the base that can use most of them is the LoRA's. (A LoRA of self-attention alone fits 1 and 2
alike; there its metadata may tell.) The tiny model's widths are its own, so a LoRA that fits it is for nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ldm.adapters.merge import Change
from ldm.checkpoints.detect import NAMES
from ldm.checkpoints.flavours import Recognised, recognise
from ldm.checkpoints.foreign import LORA, foreign
from ldm.checkpoints.lora_file import (
    Found,
    LoraFile,
    find_changes,
    names_of,
    open_lora,
    read_changes,
    sort_factors,
)
from ldm.checkpoints.lora_keys import spellings
from ldm.checkpoints.validate import check_finite, meta_model
from ldm.config import SD1, SD2_BASE, SDXL, SDXL_REFINER, TINY, Config
from ldm.errors import LdmError, some
from ldm.notes import log
from ldm.pipeline import LatentDiffusion

BASES = {"sd1": SD1, "sd2": SD2_BASE, "sdxl": SDXL, "sdxl-refiner": SDXL_REFINER, "tiny": TINY}
# The words of a file's metadata, or of its tensors' names, that tell a base; the first that occurs.
_CLAIMS = {
    r"sdxl\w*refiner|xl-v1-refiner": "sdxl-refiner",
    r"sdxl|stable-diffusion-xl": "sdxl",
    r"^sd_?v?2|stable-diffusion-v2": "sd2",
    r"^sd_?v?1|stable-diffusion-v1": "sd1",
}
_OTHERS = {
    r"double_blocks[._]\d|single_transformer_blocks[._]\d|single_blocks[._]\d": "Flux",
    r"joint_blocks[._]\d|add_q_proj|(^|[._])lora_te3_|(^|\.)text_encoder_3\.": "Stable Diffusion 3",
}
_WHERE = (
    "ss_base_model_version",
    "modelspec.architecture",
)  # in the metadata; who trained it, then who described it


@dataclass(frozen=True)
class Lora:
    """A LoRA that fits a model, ready to be merged into it."""

    path: Path
    changes: dict[str, Change]  # by parameter: "unet.mid.attn.proj_in.weight"
    unused: tuple[str, ...]  # tensors of the file that the model has no place for
    few_steps: Recognised | None = None  # how to sample with it, if it is one of those that distil a model


def read_lora(path: Path, model: LatentDiffusion) -> Lora:
    """Read a LoRA for this model; what it does not use of the file is logged.

    Raises `LdmError` for a file that is no LoRA, was made for another base, is damaged, or has NaN in it.
    """
    file = open_lora(path)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    found = find_changes(file, parts_of(model.config), shapes)
    own = family_of(model)
    _refuse_other_base(file, found, own)
    if not found.changes:
        if (what := foreign(file.tensors)) not in (None, LORA):
            raise LdmError(f"{file.path} is no LoRA, but {what}; give one")
        raise LdmError(
            f"{file.path} is no LoRA for this model: none of its {len(file.tensors)} tensors belongs to a module of it "
            f"({some(found.unused[:3])})"
        )
    if found.misfits:
        raise LdmError(f"{file.path} does not fit this model: {some(found.misfits)}; give a LoRA made for it")
    check_changes(file, found)
    if found.unused:
        count = f"{len(found.unused)} tensor{'s' * (len(found.unused) > 1)}"
        log.warning(
            "%s: not used: %s that no module of this model has a place for: %s",
            file.path,
            count,
            some(found.unused),
        )
    return Lora(file.path, found.changes, found.unused, recognise(names_of(file), "lora"))


def _refuse_other_base(file: LoraFile, found: Found, own: str | None) -> None:
    """Raise an `LdmError` if another base can use more of a file than this model, or its metadata breaks a tie."""
    if not found.misfits and not found.unused and claimed_base(file) in (own, None):
        return
    bases, most = best_bases(file)
    claimed = claimed_base(file)
    fits = own in bases or (bases and most <= len(found.changes))
    if fits and (own is None or claimed in (own, None) or claimed not in bases):
        return
    names = (
        NAMES[claimed]
        if claimed in bases
        else " or ".join(NAMES[base] for base in bases) or foreign_base(file)
    )
    if names:
        expected = f"one for {NAMES[own]}" if own else "one for this model"
        raise LdmError(f"{file.path} is a LoRA for {names}; expected {expected}")


def check_changes(file: LoraFile, found: Found) -> None:
    """Raise an `LdmError` that names a tensor with NaN or infinity in it. It reads them all."""
    for name, change in found.changes.items():
        tensors = (
            change.factors if change.magnitude is None else {**change.factors, "magnitude": change.magnitude}
        )
        check_finite({f"{name} ({factor})": tensor for factor, tensor in tensors.items()}, file.path)


def parts_of(config: Config) -> dict[str, Any]:
    """The config of each part that a LoRA may change."""
    parts = {"unet": config.unet, "text": config.text, "text_2": config.text_2}
    return {name: part for name, part in parts.items() if part is not None}


def family_of(model: LatentDiffusion) -> str | None:
    """The base that a model is of, by the width of its context; None for a model of its own kind."""
    widths = {config.unet.context_width: base for base, config in BASES.items()}
    return widths.get(model.config.unet.context_width)


def claimed_base(file: LoraFile) -> str | None:
    """The base that a file's metadata names: a key of `BASES`, or None."""
    said = [file.metadata.get(key, "").lower() for key in _WHERE]
    return next((base for text in said for words, base in _CLAIMS.items() if re.search(words, text)), None)


def best_bases(file: LoraFile) -> tuple[list[str], int]:
    """The keys of `BASES` that can use most of a file, and how many modules of them it changes."""
    counts = {base: usable(file, base) for base in BASES}
    if counts["tiny"]:
        return ["tiny"], counts["tiny"]
    most = max(counts.values())
    return [base for base, count in counts.items() if count == most > 0], most


@cache
def names_in(base: str) -> Mapping[str, str]:
    """The spellings of all modules of a base."""
    return spellings(parts_of(BASES[base]))


@cache
def shapes_of_tiny() -> Mapping[str, tuple[int, ...]]:
    """The shape of each parameter of the tiny model."""
    parts = {part: meta_model(part, config) for part, config in parts_of(TINY).items()}
    return {
        f"{part}.{n}": tuple(p.shape)
        for part, network in parts.items()
        for n, p in network.named_parameters()
    }


def usable(file: LoraFile, base: str) -> int:
    """How many modules of a base a file changes: none if it reads a context or text of another width.

    For the tiny model none either if anything else is of another shape.
    """
    parts = parts_of(BASES[base])
    modules, names, _ = sort_factors(file, names_in(base))
    for module, factors in modules.items():
        part, _, name = module.partition(".")
        width = parts[part].context_width if part == "unet" else parts[part].width
        reads_it = name.endswith(("cross_attn.k", "cross_attn.v")) if part == "unet" else "attn." in name
        for leaf, change in read_changes(file, names[module], factors):
            if leaf == "weight" and reads_it and change.size[1] != width:
                return 0
            shape = shapes_of_tiny().get(f"{module}.{leaf}") if base == "tiny" else None
            if base == "tiny" and (shape is None or change.misfit(shape)):
                return 0
    return len(modules)


def foreign_base(file: LoraFile) -> str | None:
    """What else a file was made for, by the names of its tensors."""
    return next(
        (base for words, base in _OTHERS.items() if any(re.search(words, n) for n in file.tensors)), None
    )
