r"""A LoRA written to a file, in one spelling: kohya's, which nearly every program reads.

    unet    lora_unet_    diffusers' names; the original code's for Stable Diffusion XL, as kohya's trainers write them
    text    lora_te_      transformers' names; lora_te1_ where there is a second encoder
    text_2  lora_te2_     transformers' names

A file may come in any spelling that `ldm.checkpoints.lora_file` reads. No factor is changed; an alpha that only PEFT's
settings told becomes a tensor. So what is read again is the same, to the last bit.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.adapters.merge import Change
from ldm.checkpoints.lora_file import PEFT_METADATA, Found, LoraFile, open_lora, read_changes, sort_factors
from ldm.checkpoints.lora_fit import (
    BASES,
    best_bases,
    check_changes,
    claimed_base,
    foreign_base,
    names_in,
    parts_of,
)
from ldm.checkpoints.lora_keys import modules_of
from ldm.checkpoints.safetensors_file import write_safetensors
from ldm.errors import LdmError
from ldm.files.leftovers import sweep

FACTORS = {
    "up": "lora_up.weight",
    "down": "lora_down.weight",
    "mid": "lora_mid.weight",
}  # others keep their names


def export_lora(
    source: Path, out: Path, dtype: torch.dtype | None = None, force: bool = False
) -> tuple[str, ...]:
    """Write a LoRA for Stable Diffusion 1, 2, XL or the tiny model in kohya's spelling; returns the names not kept.

    The factors keep their dtype unless another is asked for. What exists is kept unless `force` is given. Raises
    `LdmError` for what is no LoRA, is one for another model, or has NaN in it.
    """
    if out.suffix != ".safetensors":
        raise LdmError(f"{out}: a LoRA is one file; give a name that ends in .safetensors")
    file = open_lora(source)
    base = base_of(file)
    changes, unused = all_changes(file, names_in(base))
    check_changes(file, Found(changes, unused, ()))
    if dtype is not None:
        changes = {name: change.map(lambda tensor: tensor.to(dtype)) for name, change in changes.items()}
    sweep(out)
    if out.exists() and not force:
        raise LdmError(f"{out} exists and is kept; to replace it, use force=True (--force)")
    metadata = {key: value for key, value in file.metadata.items() if key != PEFT_METADATA}
    write_safetensors(out, kohya(changes, parts_of(BASES[base])), metadata)
    return unused


def base_of(file: LoraFile) -> str:
    """The key of `BASES` that a file was made for. Raises `LdmError` if it is none of them."""
    bases, _ = best_bases(file)
    if not bases:
        made_for = foreign_base(file) or "a model that is not known here, if it is a LoRA"
        raise LdmError(
            f"{file.path} is made for {made_for}; expected a LoRA for Stable Diffusion 1, 2, XL or the tiny model"
        )
    claimed = claimed_base(file)
    return claimed if claimed in bases else bases[0]


def all_changes(file: LoraFile, table: Mapping[str, str]) -> tuple[dict[str, Change], tuple[str, ...]]:
    """What a file changes, by our parameter, with names looked up in a table of spellings; and what is not in it."""
    modules, names, unused = sort_factors(file, table)
    changes = {
        f"{module}.{leaf}": change
        for module, factors in modules.items()
        for leaf, change in read_changes(file, names[module], factors)
    }
    return changes, tuple(unused)


def kohya(changes: Mapping[str, Change], configs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a LoRA file, from changes by our parameter; `configs` are those of the model's parts."""
    names = dict(_names(configs))
    tensors: dict[str, Tensor] = {}
    for parameter, change in changes.items():
        module, _, leaf = parameter.rpartition(".")
        own = {FACTORS.get(name, name): tensor for name, tensor in change.factors.items()}
        if change.kind == "full" and leaf == "bias":
            own = {"diff_b": change.factors["diff"]}
        if change.alpha is not None:
            own["alpha"] = _number(change.alpha)
        if change.magnitude is not None:
            own["dora_scale"] = change.magnitude.reshape((-1, 1) if change.per_output else (1, -1))
        tensors |= {f"{names[module]}.{name}": tensor for name, tensor in own.items()}
    return tensors


def _names(configs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each module of the model: "unet.mid.attn.proj_in", and its name in the file."""
    for part, config in configs.items():
        prefix = {"unet": "lora_unet_", "text": "lora_te_", "text_2": "lora_te2_"}[part]
        if part == "text" and "text_2" in configs:
            prefix = "lora_te1_"
        original = part == "unet" and config.added is not None
        for ours, names in modules_of(part, config):
            yield f"{part}.{ours}", prefix + names[original].replace(".", "_")


def _number(value: float) -> Tensor:
    """A tensor of one number, in float32 if that has it exactly."""
    single = torch.tensor(value, dtype=torch.float32)
    return single if single.item() == value else torch.tensor(value, dtype=torch.float64)
