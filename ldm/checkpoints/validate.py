r"""Whether a checkpoint's tensors are those of a config: each one there, once, in its shape."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ldm.checkpoints.checkpoint import PART_NAMES, Checkpoint, Part
from ldm.checkpoints.key_map import text_extras, text_rows, unet_rows, vae_rows
from ldm.checkpoints.names import Match, Row, match, some
from ldm.checkpoints.opening import OWN_PARTS
from ldm.checkpoints.strangers import meaning, top
from ldm.config import Config
from ldm.errors import LdmError
from ldm.text.encoder import TextEncoder
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE

log = logging.getLogger("ldm")

M = TypeVar("M", bound=nn.Module)

PART_CLASSES: dict[str, Any] = {"text": TextEncoder, "vae": VAE, "unet": UNet}
# Beside what `text_extras` names: what the text half of CLIP needs to be compared with pictures.
TEXT_EXTRAS = ("text_projection.weight", "logit_scale")


@dataclass(frozen=True)
class Fit:
    """How well a checkpoint's tensors fit a config."""

    tensors: dict[str, dict[str, Tensor]]  # by part, under our names; they share memory with the file's
    missing: tuple[str, ...]  # under the file's names, from here on
    left_over: tuple[str, ...]  # ignored
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


def skeleton(part: str, config: Any) -> nn.Module:
    """One network of that config, on the meta device."""
    return on_meta(PART_NAMES[part], lambda: PART_CLASSES[part](config))


def fit(checkpoint: Checkpoint, configs: Mapping[str, Any], networks: Mapping[str, nn.Module]) -> Fit:
    """Compare a checkpoint's tensors with those of networks, of these configs ("unet": a `UNetConfig`, ...)."""
    fits = {name: _fit_part(name, checkpoint.parts[name], configs[name], networks[name]) for name in configs}
    unused = [name for found, _, _ in fits.values() for name in found.left_over] + list(checkpoint.strange)
    of_networks = {name for _, own, _ in fits.values() for name in own}
    altering = [name for name in unused if name in of_networks or meaning(name)]
    return Fit(
        {name: found.tensors for name, (found, _, _) in fits.items()},
        tuple(name for found, _, _ in fits.values() for name in found.missing),
        tuple(name for name in unused if name not in altering),
        tuple(altering),
        tuple(line for _, _, misshapen in fits.values() for line in misshapen),
        (*checkpoint.dropped, *(name for found, _, _ in fits.values() for name in found.dropped)),
    )


def skeletons(configs: Mapping[str, Any]) -> dict[str, nn.Module]:
    return {part: skeleton(part, config) for part, config in configs.items()}


def _fit_part(name: str, part: Part, config: Any, network: nn.Module) -> tuple[Match, set[str], list[str]]:
    """The tensors of one network; those in its modules that it does not use; and those of a wrong shape or type."""
    rows, extras = part_rows(name, config), []
    if name == "text" and part.layout != "ours":
        extras = [*text_extras(config, part.layout), *TEXT_EXTRAS]
    found = match(part.tensors, rows, part.layout, extras)
    expected = {key: list(tensor.shape) for key, tensor in network.named_parameters()}
    theirs = {row.ours: part.prefix + row.name(part.layout) for row in rows}
    misshapen = {
        theirs[key]: f"{theirs[key]} {list(tensor.shape)} instead of {expected[key]}"
        for key, tensor in found.tensors.items()
        if list(tensor.shape) != expected[key]
    }
    misshapen |= {
        theirs[key]: f"{theirs[key]} in {str(tensor.dtype)[6:]} instead of floating point (quantised?)"
        for key, tensor in found.tensors.items()
        if not tensor.is_floating_point()
    }
    modules = {top(row.name(part.layout)) for row in rows}
    full = replace(
        found,
        missing=[part.prefix + key for key in found.missing],
        left_over=[part.prefix + key for key in found.left_over],
        dropped=[part.prefix + key for key in found.dropped],
    )
    own = {part.prefix + key for key in found.left_over if top(key) in modules}
    return full, own, list(misshapen.values())


def part_rows(part: str, config: Any, linear_projection: bool = False) -> list[Row]:
    """The table of names of one network."""
    if part == "unet":
        return unet_rows(config, linear_projection)
    return vae_rows(config) if part == "vae" else text_rows(config)


def configs_of(config: Config) -> dict[str, Any]:
    """The config of each network of a whole model."""
    return {name: getattr(config, name) for name in OWN_PARTS}


def demand(found: Fit, checkpoint: Checkpoint) -> None:
    """Raise an `LdmError` unless every needed tensor is there, in its shape, and none that changes the numbers."""
    troubles = {"missing": found.missing, "misshapen": found.misshapen}
    wrong = [f"{len(names)} {what}: {some(list(names))}" for what, names in troubles.items() if names]
    if wrong:
        what = "model" if len(checkpoint.parts) > 1 else PART_NAMES[next(iter(checkpoint.parts))]
        raise LdmError(f"{checkpoint.path} is no whole {what}; {'; '.join(wrong)}")
    if found.altering:
        raise LdmError(
            f"{checkpoint.path} has {reason(found)}, which is not supported: ignoring "
            f"{some(list(found.altering))} would give wrong images; take another file of this model"
        )
    if found.dropped:
        log.debug("%s: left out %s", checkpoint.path, some(list(found.dropped)))


def warn_ignored(names: tuple[str, ...], path: Path) -> None:
    """Say which tensors of a file are ignored, if any."""
    if names:
        count = f"{len(names)} tensor{'s' * (len(names) > 1)}"
        log.warning("%s: ignored %s that no part of the model uses: %s", path, count, some(list(names)))


def reason(found: Fit) -> str:
    """What the tensors are that would change the numbers."""
    return next(filter(None, map(meaning, found.altering)), "layers that this model does not have")


def demand_finite(tensors: Mapping[str, Tensor], source: Path, part: str = "") -> None:
    """Raise an `LdmError` that names a tensor with NaN or infinity in it. It reads them all.

    `part`: which network they are of. A model can do with another VAE, and for some published ones it has to.
    """
    for name, tensor in tensors.items():
        # A sum has no room to hide one, and takes no memory; it can overflow by itself, so look again then. (Half
        # precision is added up in float32 anyway. If told to, torch widens all numbers first, which is far slower.)
        # Numbers of one byte (fp8) torch only converts.
        wide = tensor.half() if tensor.itemsize == 1 else tensor
        if not wide.sum().isfinite() and not wide.isfinite().all():
            raise LdmError(
                f"{source}: the tensor {name} has NaN or infinity in it ({tensor.dtype}); the file is spoilt, or the "
                "dtype too narrow for it"
                + ("; another VAE can take its place: vae=... (--vae FILE)" if part == "vae" else "")
            )
