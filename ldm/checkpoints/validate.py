r"""Whether a checkpoint's tensors are those of a config: each one there, once, in its shape."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ldm.checkpoints.checkpoint import PART_NAMES, Checkpoint, Part
from ldm.checkpoints.foreign import alteration
from ldm.checkpoints.key_map import text_extras, text_rows, unet_rows, vae_rows
from ldm.checkpoints.names import Row, match
from ldm.checkpoints.opening import OWN_PARTS
from ldm.config import Config
from ldm.errors import LdmError, some
from ldm.notes import log
from ldm.text.encoder import TextEncoder
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE

M = TypeVar("M", bound=nn.Module)

PART_CLASSES: dict[str, Any] = {"text": TextEncoder, "text_2": TextEncoder, "vae": VAE, "unet": UNet}
# Besides what `text_extras` names: what the text half of CLIP needs to be compared with images.
TEXT_EXTRAS = ("text_projection.weight", "logit_scale")


@dataclass(frozen=True)
class Comparison:
    """How a checkpoint's tensors compare with those of a config. Names are the file's, but for those of `tensors`."""

    tensors: dict[str, dict[str, Tensor]]  # by part, under our names; they share memory with the file's
    missing: tuple[str, ...]
    ignored: tuple[str, ...]
    altering: tuple[str, ...]  # not asked for either, but to ignore these would change the numbers
    misshapen: tuple[str, ...]
    dropped: tuple[str, ...]


def on_meta(what: str, build: Callable[[], M]) -> M:
    """A module without memory for its weights. Raises `LdmError` for sizes that make none."""
    try:
        with torch.device("meta"):  # no random numbers either
            return build()
    except (ValueError, RuntimeError, ArithmeticError, TypeError) as error:
        raise LdmError(f"its sizes make no {what} ({error}); give a config that fits") from error


def meta_model(part: str, config: Any) -> nn.Module:
    """One network of that config, on the meta device."""
    return on_meta(PART_NAMES[part], lambda: PART_CLASSES[part](config))


def compare(
    checkpoint: Checkpoint, configs: Mapping[str, Any], networks: Mapping[str, nn.Module]
) -> Comparison:
    """Compare a checkpoint's tensors with those of networks, of these configs ("unet": a `UNetConfig`, ...).

    Raises `LdmError` for a network that is not in the checkpoint at all.
    """
    if absent := [PART_NAMES[name] for name in configs if name not in checkpoint.parts]:
        raise LdmError(f"{checkpoint.path}: there is no {' and no '.join(absent)} in it; its config says so")
    tensors: dict[str, dict[str, Tensor]] = {}
    left_over, dropped = list(checkpoint.unknown), list(checkpoint.dropped)
    missing: list[str] = []
    altering: list[str] = []
    misshapen: list[str] = []
    for name, config in configs.items():
        part = checkpoint.parts[name]
        rows, extras = part_rows(name, config), []
        if name in ("text", "text_2") and part.layout != "ours":
            extras = [*text_extras(config, part.layout), *TEXT_EXTRAS]
        found = match(part.tensors, rows, part.layout, extras)
        tensors[name] = found.tensors
        missing += [part.prefix + key for key in found.missing]
        dropped += [part.prefix + key for key in found.dropped]
        # A tensor in one of the modules that a network is built of is part of its computation, whatever it is.
        modules = {_module(row.name(part.layout)) for row in rows}
        for key in found.left_over:
            inside = part.layout == "ours" or _module(key) in modules
            (altering if inside else left_over).append(part.prefix + key)
        misshapen += _misshapen(part, rows, found.tensors, networks[name])
    altering += filter(alteration, left_over)
    ignored = tuple(name for name in left_over if not alteration(name))
    return Comparison(tensors, tuple(missing), ignored, tuple(altering), tuple(misshapen), tuple(dropped))


def _module(name: str) -> str:
    """The module of a network that a tensor belongs to: `down_blocks` of "down_blocks.0.resnets.0...."."""
    return name.removeprefix("text_model.").partition(".")[0]


def _misshapen(part: Part, rows: list[Row], tensors: Mapping[str, Tensor], network: nn.Module) -> list[str]:
    """The tensors of a wrong shape or type, each with what is wrong."""
    theirs = {row.ours: part.prefix + row.name(part.layout) for row in rows}
    wrong = []
    for key, parameter in network.named_parameters():
        tensor = tensors.get(key, parameter)
        if not tensor.is_floating_point():
            wrong.append(f"{theirs[key]} in {str(tensor.dtype)[6:]} instead of floating point (quantised?)")
        elif tensor.shape != parameter.shape:
            wrong.append(f"{theirs[key]} {list(tensor.shape)} instead of {list(parameter.shape)}")
    return wrong


def part_rows(part: str, config: Any, linear_projection: bool = False) -> list[Row]:
    """The table of names of one network."""
    if part == "unet":
        return unet_rows(config, linear_projection)
    return vae_rows(config) if part == "vae" else text_rows(config)


def configs_of(config: Config) -> dict[str, Any]:
    """The config of each network of a whole model."""
    found = {name: getattr(config, name) for name in (*OWN_PARTS, "text_2")}
    return {name: own for name, own in found.items() if own is not None}


def check(found: Comparison, checkpoint: Checkpoint) -> None:
    """Raise an `LdmError` unless every needed tensor is there, in its shape, and none that changes the numbers."""
    troubles = {"missing": found.missing, "misshapen": found.misshapen}
    wrong = [f"{len(names)} {what}: {some(names)}" for what, names in troubles.items() if names]
    if wrong:
        what = "model" if len(checkpoint.parts) > 1 else PART_NAMES[next(iter(checkpoint.parts))]
        raise LdmError(f"{checkpoint.path} is no whole {what}; {'; '.join(wrong)}")
    if found.altering:
        kinds = filter(None, map(alteration, found.altering))
        raise LdmError(
            f"{checkpoint.path} has {next(kinds, 'layers that this model does not have')}, which is not supported: "
            f"ignoring {some(found.altering)} would give wrong images; take another file of this model"
        )
    if found.dropped:
        log.debug("%s: left out %s", checkpoint.path, some(found.dropped))


def warn_ignored(names: tuple[str, ...], path: Path) -> None:
    """Log which tensors of a file are ignored, if any."""
    if names:
        count = f"{len(names)} tensor{'s' * (len(names) > 1)}"
        log.warning("%s: ignored %s that no part of the model uses: %s", path, count, some(names))


def check_finite(tensors: Mapping[str, Tensor], source: Path, part: str = "") -> None:
    """Raise an `LdmError` that names a tensor with NaN or infinity in it. It reads them all.

    `part`: which network they are of. A model can take another VAE, and some published ones need one.
    """
    for name, tensor in tensors.items():
        # NaN and infinity survive a sum, which takes no memory; but a sum can also overflow, so look again then. (Half
        # precision is summed in float32 anyway. If told to, torch converts all numbers first, which is far slower.)
        # Numbers of one byte (fp8) torch can only convert.
        wide = tensor.half() if tensor.itemsize == 1 else tensor
        if not wide.sum().isfinite() and not wide.isfinite().all():
            raise LdmError(
                f"{source}: the tensor {name} has NaN or infinity in it ({tensor.dtype}); the file is corrupt, or the "
                "dtype too narrow for it"
                + ("; another VAE can take its place: vae=... (--vae FILE)" if part == "vae" else "")
            )
