r"""A checkpoint: its networks, each with its tensors as its file names them.

One file of Stable Diffusion holds everything that training held. Prefixes tell the networks apart:

    model.diffusion_model.*     the U-Net
    first_stage_model.*         the VAE
    cond_stage_model.*          the text encoder
    model_ema.*                 the U-Net again, averaged over training (EMA), without dots in its names
    betas, alphas_cumprod, ...  tables that the config says in three numbers

The average paints better, so it is taken where there is one; to train on, one takes the "live" weights.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.convert.names import Layout
from ldm.errors import LdmError

PREFIXES = {
    "model.diffusion_model.": "unet",
    "first_stage_model.": "vae",
    "cond_stage_model.transformer.": "text",
    "cond_stage_model.model.": "text",
    "conditioner.embedders.0.transformer.": "text",  # SDXL, which has two text encoders
    "conditioner.embedders.0.model.": "text",
    "conditioner.embedders.1.model.": "text_2",
    "model_ema.": "ema",
}
# What a single file may have and a model does not need: the tables of the noise schedule, traces of training...
TABLES = (
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod",
    "posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2",
    "logvar", "denoiser.sigmas",
)  # fmt: skip
# ... and marks that tell what shapes cannot: prediction of v, and a schedule that ends in noise alone.
MARKS = ("v_pred", "ztsnr")
TRACES = ("loss.", "edm_", "model_ema.decay", "model_ema.num_updates")


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
    strange: tuple[str, ...] = ()  # names of what is not known
    ema: bool = False  # whether it has both averaged and live weights
    marks: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)  # JSON that came with it, by part
    metadata: Mapping[str, str] = field(default_factory=dict)


def split(path: Path, tensors: Mapping[str, Tensor], weights: str | None = None) -> Checkpoint:
    """Sort the tensors of one file into networks.

    `weights`: "ema" or "live" if the file has both; EMA where present if None. Raises `LdmError` when EMA is asked for
    and there is none.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    where: dict[str, str] = {}
    dropped, strange, marks = [], [], []
    for name, tensor in tensors.items():
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if name in MARKS:
            marks.append(name)
        elif name in TABLES or name.startswith(TRACES):
            dropped.append(name)
        elif prefix is None:
            strange.append(name)
        else:
            groups.setdefault(PREFIXES[prefix], {})[name.removeprefix(prefix)] = tensor
            where[PREFIXES[prefix]] = prefix
    if not groups.keys() - {"ema"}:
        return _bare(path, {name: tensors[name] for name in tensors if name not in dropped}, tuple(dropped))
    ema = groups.pop("ema", {})
    if weights == "ema" and not ema:
        raise LdmError(
            f"{path} has no averaged weights (EMA); load it with weights='live', or leave that out"
        )
    if ema and "unet" in groups:
        averaged = ema_names(groups["unet"])
        unused = set(ema) - set(averaged.values())
        strange += [f"model_ema.{name}" for name in ema if name in unused]
        if weights == "live":
            dropped += [f"model_ema.{name}" for name in ema if name not in unused]
        else:
            dropped += [f"model.diffusion_model.{name}" for name in groups["unet"]]
            groups["unet"] = {name: ema[other] for name, other in averaged.items() if other in ema}
    return Checkpoint(
        path,
        "single file (CompVis)",
        {name: Part(group, layout_of(group), path, where[name]) for name, group in groups.items()},
        tuple(dropped),
        tuple(strange),
        bool(ema),
        tuple(marks),
    )


def ema_names(names: Iterable[str]) -> dict[str, str]:
    """What the average of each tensor of the U-Net is called: the name in the whole model, without its dots."""
    return {name: ("diffusion_model." + name).replace(".", "") for name in names}


def _bare(path: Path, tensors: dict[str, Tensor], dropped: tuple[str, ...]) -> Checkpoint:
    """A file of one network, without a prefix."""
    kind = next((kind for mark, kind in BARE.items() if any(name.endswith(mark) for name in tensors)), None)
    if kind is None:
        return Checkpoint(path, "file", {}, dropped, tuple(tensors))
    if kind == "vae":  # its training may have left an average of it
        dropped += tuple(name for name in tensors if name.startswith("model_ema."))
    own = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    return Checkpoint(path, "file of one network", {kind: Part(own, layout_of(own), path)}, dropped)


# The end of a name that only one kind of network has.
BARE = {
    "decoder.conv_in.weight": "vae",
    "input_blocks.0.0.weight": "unet",
    "time_embedding.linear_1.weight": "unet",
    "token_embedding.weight": "text",
}


def layout_of(names: Iterable[str]) -> Layout:
    """Whose names these are: diffusers' and transformers', or those of the original files and OpenCLIP."""
    marks = ("down_blocks.", "up_blocks.", "encoder.layers.", "embeddings.")
    return "diffusers" if any(mark in name for name in names for mark in marks) else "compvis"
