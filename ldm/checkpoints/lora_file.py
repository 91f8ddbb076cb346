r"""A LoRA file: its tensors sorted by module, and what they change of a model.

Nothing is merged here, and nothing of the model is needed but the names and shapes of its parameters. Every tensor of
the file is used once, belongs to a module that does not fit, or is named as unused.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.adapters.merge import Change
from ldm.checkpoints.flavours import name_of, titles
from ldm.checkpoints.formats import is_pickled, read_file
from ldm.checkpoints.lora_keys import look_up, refused_kind, spellings
from ldm.checkpoints.safetensors_file import read_metadata
from ldm.errors import LdmError, shown
from ldm.files.paths import expanded
from ldm.files.read_write import parse_json, read_json

# What a folder that diffusers or PEFT wrote calls its LoRA.
IN_FOLDERS = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "pytorch_lora_weights.bin",
              "adapter_model.bin")  # fmt: skip
PEFT_CONFIG = "adapter_config.json"  # beside a file of PEFT's: it has the alpha, which the file lacks
PEFT_METADATA = "lora_adapter_metadata"  # the same in the header of a file of diffusers', for each part
# The factors of each kind: those that a module of this kind always has, and those that it may have.
KINDS = {
    "LoRA": (("up", "down"), ("mid",)),
    "LoHa": (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), ("hada_t1", "hada_t2")),
    "LoKr": ((), ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")),
}
# Changes that are in a file as they are, and the parameter that they belong to.
WHOLE = {"diff": "weight", "w_norm": "weight", "diff_b": "bias", "b_norm": "bias"}


@dataclass(frozen=True)
class LoraFile:
    """An open file, mapped and not yet read."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    peft: Mapping[str, Any] = field(default_factory=dict)  # what PEFT says about it


@dataclass(frozen=True)
class Found:
    """What a file changes of one model, by the model's parameters, such as "unet.mid.attn.proj_in.weight"."""

    changes: dict[str, Change]
    unused: tuple[str, ...]  # tensors that belong to no module of the model
    misfits: tuple[str, ...]  # modules of another shape, each with what is wrong


def open_lora(path: Path) -> LoraFile:
    """Open a file, or a folder that diffusers or PEFT wrote. Raises `LdmError` for what is not a file of weights."""
    path = lora_file(path)
    pickled = is_pickled(path)
    tensors, metadata = read_file(path), {} if pickled else read_metadata(path)
    config, peft = path.parent / PEFT_CONFIG, {}
    if PEFT_METADATA in metadata:
        peft = parse_json(metadata[PEFT_METADATA], f"{path}: {PEFT_METADATA}")
    elif path.name in IN_FOLDERS and config.is_file():
        peft = read_json(config)
    if not isinstance(peft, dict):
        raise LdmError(f"{path}: what PEFT says about it is {shown(peft)}; expected an object")
    return LoraFile(path, tensors, metadata, peft)


def lora_file(path: Path) -> Path:
    """The file itself, or the one in a folder that diffusers or PEFT wrote. Raises `LdmError` for another folder."""
    path = expanded(path)
    if not path.is_dir():
        return path
    inside = [path / name for name in IN_FOLDERS if (path / name).is_file()]
    if not inside:
        raise LdmError(f"{path} is a folder without {' or '.join(IN_FOLDERS[:2])}; give the LoRA's file")
    return inside[0]


def names_of(file: LoraFile) -> Iterator[tuple[str, str]]:
    """What a LoRA is called: its file, or the folder or repository that it is in; and its titles in the metadata."""
    yield "its name", name_of(file.path.parent if file.path.name in IN_FOLDERS else file.path)
    yield from titles(file.metadata)


def find_changes(file: LoraFile, configs: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Found:
    """Look up a file's modules in a model with parts of these configs, and parameters of these shapes.

    Raises `LdmError` for a file that is damaged: half of a pair, a rank of 0, an alpha that is not a number.
    """
    modules, names, unused = sort_factors(file, spellings(configs))
    changes: dict[str, Change] = {}
    misfits: list[str] = []
    for module, factors in modules.items():
        for leaf, change in read_changes(file, names[module], factors):
            name = f"{module}.{leaf}"
            if name not in shapes:  # a bias that our layer lacks, or the last layer of a text encoder
                unused += [key for key in file.tensors if key.startswith(f"{names[module]}.")]
            elif why := change.misfit(shapes[name]):
                misfits.append(f"{names[module]} ({why})")
            else:
                changes[name] = change
    return Found(changes, tuple(unused), tuple(misfits))


def sort_factors(
    file: LoraFile, table: Mapping[str, str]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, str], list[str]]:
    """The factors of each of our modules, what the file calls that module, and the names of all other tensors."""
    modules: dict[str, dict[str, Tensor]] = {}
    names: dict[str, str] = {}
    unused = []
    for name, tensor in file.tensors.items():
        if what := refused_kind(name):
            raise LdmError(f"{file.path} is {what}; expected a LoRA, LoHa, LoKr or DoRA ({shown(name)})")
        found = look_up(name, table)
        if found is None:
            unused.append(name)
            continue
        module, factor, theirs = found
        if factor in modules.setdefault(module, {}):
            raise LdmError(f"{file.path} has the {factor} of {theirs} twice, in two spellings; remove one")
        if factor != "alpha" and not tensor.is_floating_point():
            raise LdmError(
                f"{file.path}: {shown(name)} is in {str(tensor.dtype)[6:]}; expected floating point"
            )
        modules[module][factor] = tensor
        names[module] = theirs
    return modules, names, unused


def read_changes(file: LoraFile, name: str, factors: Mapping[str, Tensor]) -> list[tuple[str, Change]]:
    """The parameters of a module that its factors change, "weight" or "bias". An `LdmError` names the module."""
    try:
        return list(_changes(file, name, factors))
    except LdmError as error:
        raise LdmError(f"{file.path}: {name}: {error}") from error


def _changes(file: LoraFile, name: str, factors: Mapping[str, Tensor]) -> Iterator[tuple[str, Change]]:
    kinds = [kind for kind, (needed, more) in KINDS.items() if factors.keys() & {*needed, *more}]
    whole = [factor for factor in WHOLE if factor in factors]
    if len(kinds) + sum(WHOLE[factor] == "weight" for factor in whole) > 1:
        raise LdmError(f"it has factors of several kinds ({', '.join(factors)}); expected one")
    magnitude, per_output = _magnitude(factors)
    for factor in whole:
        lengths = magnitude if WHOLE[factor] == "weight" else None
        yield WHOLE[factor], Change("full", {"diff": factors[factor]}, None, lengths, per_output)
    for kind in kinds:
        needed, more = KINDS[kind]
        missing = [factor for factor in needed if factor not in factors]
        if kind == "LoKr":
            missing = [f"lokr_w{k}" for k in (1, 2) if not _has_factor(factors, f"lokr_w{k}")]
        if missing:
            raise LdmError(f"it has no {' and no '.join(missing)}: half a {kind}; fetch the file again")
        own = {factor: factors[factor] for factor in (*needed, *more) if factor in factors}
        yield "weight", Change(kind, own, _alpha(file, name, factors), magnitude, per_output)
    if not kinds and not whole:
        raise LdmError(f"it has {', '.join(factors)} and no factors; fetch the file again")


def _has_factor(factors: Mapping[str, Tensor], name: str) -> bool:
    return name in factors or (f"{name}_a" in factors and f"{name}_b" in factors)


def _magnitude(factors: Mapping[str, Tensor]) -> tuple[Tensor | None, bool]:
    """DoRA's magnitude, and whether it has one number per output.

    PEFT's always has. That of kohya's programs and LyCORIS says it by its shape: [out, 1] or [1, in].
    """
    if "magnitude" in factors:
        return factors["magnitude"], True
    found = factors.get("dora_scale")
    return found, found is None or found.ndim < 2 or found.shape[0] != 1 or found.numel() == 1


def _alpha(file: LoraFile, name: str, factors: Mapping[str, Tensor]) -> float | None:
    """The alpha of one module: a tensor of the file, or else what PEFT's settings say; None if nothing does."""
    if "alpha" in factors:
        if factors["alpha"].numel() != 1:
            raise LdmError(f"its alpha has the shape {list(factors['alpha'].shape)}; expected one number")
        alpha = float(factors["alpha"].double().item())
    else:
        said = _peft_alpha(file.peft, name, factors)
        if said is None:
            return None
        alpha = said
    if not math.isfinite(alpha):
        raise LdmError(f"its alpha is {alpha}; the file is corrupt, fetch it again")
    return alpha


def _peft_alpha(peft: Mapping[str, Any], name: str, factors: Mapping[str, Tensor]) -> float | None:
    """What PEFT says about a module: `lora_alpha`, or another one in `alpha_pattern` for the modules that it names."""
    part = name.partition(".")[0]
    settings: Mapping[str, Any] = {
        key.removeprefix(f"{part}."): value for key, value in peft.items() if key.startswith(f"{part}.")
    }
    settings = settings or peft
    alpha, patterns = settings.get("lora_alpha"), settings.get("alpha_pattern") or {}
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        plain = pattern.removeprefix("^").removesuffix("$")
        if set(plain) & set("\\*+?|()[]{}^$"):  # PEFT allows it; a stranger's could take forever
            raise LdmError(
                f"PEFT's alpha_pattern {shown(pattern)} is a regular expression; expected modules' names"
            )
        if name == plain or name.endswith(f".{plain}"):
            alpha = value
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool) and abs(alpha) < 1e9
    if alpha is not None and not is_number:
        raise LdmError(f"PEFT's lora_alpha is {shown(alpha)}; expected a number")
    # "Rank-stabilised" is alpha over the root of the rank.
    stabilised = settings.get("use_rslora") is True and "down" in factors
    more = math.sqrt(factors["down"].shape[0]) if stabilised else 1.0
    return None if alpha is None else more * float(alpha)
