r"""A checkpoint: its networks, each with its tensors as its file names them.

One file of Stable Diffusion holds everything that training held. Prefixes tell the networks apart:

    model.diffusion_model.*     the U-Net
    first_stage_model.*         the VAE
    cond_stage_model.*          the text encoder
    conditioner.embedders.*     the text encoders of Stable Diffusion XL (its refiner has one, base two)
    model_ema.*                 the U-Net again, averaged over training (EMA), without dots in its names
    betas, alphas_cumprod, ...  everything else: see `ldm.checkpoints.foreign`

The average gives better images, so it is taken where there is one; to go on training, take the "live" weights.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.checkpoints.foreign import INVERSION, is_harmless, is_inversion
from ldm.checkpoints.names import Layout
from ldm.errors import LdmError
from ldm.notes import log

PREFIXES = {
    "model.diffusion_model.": "unet",
    "first_stage_model.": "vae",
    "cond_stage_model.transformer.": "text",
    "cond_stage_model.model.": "text",
    "conditioner.embedders.0.transformer.": "text",
    "conditioner.embedders.0.model.": "text",
    "conditioner.embedders.1.model.": "text_2",
    "model_ema.": "ema",
}
# A name that only one kind of network has, in a file that holds it alone.
BARE = {
    "decoder.conv_in.weight": "vae",
    "input_blocks.0.0.weight": "unet",
    "time_embedding.linear_1.weight": "unet",
    "token_embedding.weight": "text",  # OpenCLIP
    "text_model.embeddings.token_embedding.weight": "text",
    "embeddings.token_embedding.weight": "text",  # transformers 5 and later
}
MOST_WRAPPERS = 4  # prefixes before every name
# Marks that tell what shapes cannot: prediction of v, and a schedule with zero terminal SNR.
MARKS = ("v_pred", "ztsnr")
BUFFERS = ("alphas_cumprod", "scale_factor")  # what the original code keeps of its settings among the tensors

PART_NAMES = {"text": "text encoder", "vae": "VAE", "unet": "U-Net", "text_2": "second text encoder"}


@dataclass(frozen=True)
class Part:
    """One network's tensors as its file has them."""

    tensors: dict[str, Tensor]
    layout: Layout
    source: Path
    prefix: str = ""  # what stood before the names in the file

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


@dataclass(frozen=True)
class Checkpoint:
    """What was found at a path, not yet checked against any model."""

    path: Path
    form: str  # of the whole, in words
    parts: dict[str, Part]  # "unet", "vae", "text", and for SDXL "text_2"
    dropped: tuple[str, ...] = ()  # names of what is known and not needed
    unknown: tuple[str, ...] = ()  # names of all other tensors
    ema: bool = False  # whether it has both averaged and live weights
    trouble: str | None = None  # why the weights that were asked for cannot be used, and what to do
    marks: tuple[str, ...] = ()
    buffers: Mapping[str, Tensor] = field(default_factory=dict)  # those of `BUFFERS` that it has
    settings: Mapping[str, Any] = field(default_factory=dict)  # JSON that came with it, by part
    metadata: Mapping[str, str] = field(default_factory=dict)


def split(path: Path, tensors: Mapping[str, Tensor], weights: str | None = None) -> Checkpoint:
    """Sort the tensors of one file into networks.

    `weights`: "ema" or "live" if the file has both; None takes EMA where present. Raises `LdmError` when EMA is asked
    for and there is none.
    """
    outer, tensors = unwrap(tensors)
    groups: dict[str, dict[str, Tensor]] = {}
    where: dict[str, str] = {}
    dropped, unknown = [], []
    for name, tensor in tensors.items():
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if is_harmless(name):
            dropped.append(name)
        elif prefix is not None:
            groups.setdefault(PREFIXES[prefix], {})[name.removeprefix(prefix)] = tensor
            where[PREFIXES[prefix]] = prefix
        elif name not in MARKS:
            unknown.append(name)
    if not groups.keys() - {"ema"}:
        return _bare(path, {n: t for n, t in tensors.items() if n not in dropped}, tuple(dropped), outer)
    averaged = ema_names(groups.get("unet", ()))
    ema = groups.pop("ema", {})
    unknown += [f"model_ema.{name}" for name in ema.keys() - set(averaged.values())]
    ema = {name: ema[other] for name, other in averaged.items() if other in ema}
    one_set = f"{path} has one set of weights, and nothing in it says"
    if weights == "ema" and not ema:
        raise LdmError(f"{one_set} that they are averaged (EMA); to take them as is, leave out weights='ema'")
    if weights == "live" and not ema:
        log.warning(f"{one_set} whether they are live; taken as they are")
    trouble, lacking = None, len(averaged) - len(ema)
    if ema and weights != "live" and lacking:
        trouble = (
            f"its averaged weights (EMA) are incomplete: {lacking} of {len(averaged)} tensors are missing; load the "
            "live ones with weights='live' (--weights live)"
        )
    if weights == "live" or lacking:
        dropped += [f"model_ema.{averaged[name]}" for name in ema]
    elif ema:
        dropped += [f"model.diffusion_model.{name}" for name in ema]
        groups["unet"] = ema
    return Checkpoint(
        path,
        "single file (CompVis)",
        {name: Part(group, layout_of(group), path, outer + where[name]) for name, group in groups.items()},
        tuple(dropped),
        tuple(unknown),
        bool(ema),
        trouble,
        tuple(name for name in MARKS if name in tensors),
        {name: tensors[name] for name in BUFFERS if name in tensors},
    )


def unwrap(tensors: Mapping[str, Tensor]) -> tuple[str, Mapping[str, Tensor]]:
    """The prefix that stands before every name and means nothing, and the tensors without it.

    torch.compile puts `_orig_mod.` into the names, DistributedDataParallel `module.`, and a network that was saved as
    part of a larger module has that module's name. A prefix is removed only if all names have it and the rest are
    those of a network that is known.
    """
    plain = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    if len(plain) < len(tensors):  # the same names with it and without: not for us to choose
        return "", tensors
    prefix, names = "", [name for name in plain if not is_harmless(name)]
    for _ in range(MOST_WRAPPERS):
        rest = [name.removeprefix(prefix) for name in names]
        if not rest or any(name in BARE or name.startswith(tuple(PREFIXES)) for name in rest):
            return prefix, {name.removeprefix(prefix): tensor for name, tensor in plain.items()}
        word, dot, _ = rest[0].partition(".")
        prefix += word + dot
        if not dot or not all(name.startswith(prefix) for name in names):
            break
    return "", plain


def ema_names(names: Iterable[str]) -> dict[str, str]:
    """What the average of each tensor of the U-Net is called: the name in the whole model, without its dots."""
    return {name: ("diffusion_model." + name).replace(".", "") for name in names}


def _bare(path: Path, tensors: dict[str, Tensor], dropped: tuple[str, ...], outer: str) -> Checkpoint:
    """A file of one network, without a prefix."""
    part = next((BARE[name] for name in tensors if name in BARE), None)
    if part is None:
        inversion = is_inversion({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        trouble = f"it is {INVERSION}" if inversion else None
        return Checkpoint(path, "file", {}, dropped, tuple(tensors), trouble=trouble)
    if part == "vae":  # its training may have left an average of it
        dropped += tuple(name for name in tensors if name.startswith("model_ema."))
    own = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    return Checkpoint(path, "file of one network", {part: Part(own, layout_of(own), path, outer)}, dropped)


def layout_of(names: Iterable[str]) -> Layout:
    """Whose names these are: diffusers' and transformers', or those of the original files and OpenCLIP."""
    marks = ("down_blocks.", "up_blocks.", "encoder.layers.", "embeddings.")
    return "diffusers" if any(mark in name for name in names for mark in marks) else "compvis"
