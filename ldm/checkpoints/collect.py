r"""A whole model, collected from any form of checkpoint: its config, its tokenizer, and its tensors under our names."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ldm.checkpoints.checkpoint import PART_NAMES, Checkpoint, Part
from ldm.checkpoints.detect import NAMES, family
from ldm.checkpoints.diffusers_folder import FOLDERS
from ldm.checkpoints.foreign import TINY, foreign
from ldm.checkpoints.infer_config import configure, lone_config, refuse_foreign
from ldm.checkpoints.loaded import LoadedModel
from ldm.checkpoints.opening import CONFIG, all_names, open_checkpoint
from ldm.checkpoints.tokenizer_io import with_tokenizer
from ldm.checkpoints.validate import check, compare, configs_of, meta_model, on_meta, warn_ignored
from ldm.config import SDXL, Config, VAEConfig
from ldm.errors import LdmError


@dataclass(frozen=True)
class Collected:
    """Everything that a model is made of. The tensors are mapped, not read."""

    checkpoint: Checkpoint
    model: LoadedModel  # on the meta device: all but its weights
    tensors: dict[str, dict[str, Tensor]]  # by part: "text", "vae", "unet"
    dropped: tuple[str, ...]  # what the file has and a model does not keep
    ignored: tuple[str, ...]  # what is not known


def collect(
    path: Path,
    config: Config | None = None,
    weights: str | None = None,
    prediction: str | None = None,
    vae: Path | None = None,
    unet: Path | None = None,
) -> Collected:
    """Open, recognise and check a checkpoint, with the VAE or the U-Net of another one if `vae` or `unet` says which.

    Raises `LdmError` for anything that is not a whole model.
    """
    checkpoint = open_checkpoint(path, weights)
    if unet is not None:
        checkpoint = _with_unet(checkpoint, open_checkpoint(unet))
    if vae is not None:
        checkpoint = _with_vae(checkpoint, collect_part(vae, "vae"))
    made = collect_from(checkpoint, config, prediction)
    warn_ignored(made.ignored, checkpoint.path)
    return made


def collect_from(
    checkpoint: Checkpoint, config: Config | None = None, prediction: str | None = None
) -> Collected:
    """A model of a checkpoint that is already open. `inspect` uses this, too, to say whether a checkpoint loads."""
    found, tokenizer = with_tokenizer(checkpoint, configure(checkpoint, config, prediction))
    model = on_meta("model", lambda: LoadedModel(found, tokenizer))
    model.path = checkpoint.path
    configs = configs_of(found)
    compared = compare(checkpoint, configs, {name: getattr(model, name) for name in configs})
    check(compared, checkpoint)
    dropped = compared.dropped
    if (checkpoint.path / "clip.safetensors").is_file():
        dropped += ("clip.safetensors",)  # the image half of CLIP, which generating does without
    return Collected(checkpoint, model, compared.tensors, dropped, compared.ignored)


@dataclass(frozen=True)
class CollectedPart:
    """One network out of a checkpoint. Its tensors are mapped, not read."""

    checkpoint: Checkpoint
    part: Part  # under our names
    config: Any
    network: nn.Module  # on the meta device
    whole: str | None = None  # the family of the model that it was part of


def collect_part(path: Path, name: str) -> CollectedPart:
    """One network, "vae" or "text", of a file or folder that holds it alone or with others. Raises `LdmError`."""
    checkpoint = open_checkpoint(path)
    if set(checkpoint.parts) <= {"unet"} or foreign(all_names(checkpoint)) == TINY:
        refuse_foreign(checkpoint)
    if name not in checkpoint.parts:
        held = " and ".join(f"a {PART_NAMES[part]}" for part in checkpoint.parts)
        raise LdmError(f"{path} holds {held}; expected a {PART_NAMES[name]}, alone or in a whole model")
    whole = _family(checkpoint)
    is_xl = (whole or "").startswith("sdxl")
    if is_xl and name == "text":  # what is read of it depends on the whole
        raise LdmError(f"{path} is {NAMES[whole or '']}; expected a text encoder of Stable Diffusion 1 or 2")
    part = checkpoint.parts[name]
    settings = {key: value for key, value in checkpoint.settings.items() if key == FOLDERS[name]}
    alone = replace(checkpoint, parts={name: part}, settings=settings, unknown=(), dropped=())
    config = lone_config(alone)
    if isinstance(config, VAEConfig) and is_xl and "scaling_factor" not in settings.get("vae", {}):
        config = replace(config, scale=SDXL.vae.scale)
    network = meta_model(name, config)
    compared = compare(alone, {name: config}, {name: network})
    check(compared, alone)
    warn_ignored(compared.ignored, alone.path)
    return CollectedPart(alone, Part(compared.tensors[name], "ours", part.source), config, network, whole)


def _family(checkpoint: Checkpoint) -> str | None:
    """The family of a whole model, as far as it can be told without opening it."""
    if CONFIG in checkpoint.metadata:
        return Config.from_json(checkpoint.metadata[CONFIG]).name
    return family(checkpoint) if "unet" in checkpoint.parts else None


def _with_unet(checkpoint: Checkpoint, other: Checkpoint) -> Checkpoint:
    """The checkpoint with another U-Net, such as one that was distilled from it and published alone.

    What is said of the whole model comes with the U-Net where it is said there, and else stays.
    """
    if "unet" not in other.parts:
        held = " and ".join(f"a {PART_NAMES[part]}" for part in other.parts) or "no network that is known"
        raise LdmError(f"{other.path} holds {held}; expected a U-Net, alone or in a whole model")
    if CONFIG in checkpoint.metadata or CONFIG in other.metadata:
        mine = checkpoint.path if CONFIG in checkpoint.metadata else other.path
        raise LdmError(
            f"{mine} is in this project's layout; another U-Net goes with a model as it was published"
        )
    families = [(_family(one) or "").partition("-")[0] for one in (checkpoint, other)]
    if all(families) and len(set(families)) > 1:
        raise LdmError(
            f"{other.path} has a U-Net of another kind than {checkpoint.path}; take one made for this model"
        )
    settings = dict(checkpoint.settings) | {"unet": other.settings.get("unet", {})}
    if "scheduler" in other.settings:
        settings["scheduler"] = other.settings["scheduler"]
    return replace(
        checkpoint,
        parts={**checkpoint.parts, "unet": other.parts["unet"]},
        settings=settings,
        metadata={**checkpoint.metadata, **other.metadata},
        marks=other.marks,
        ema=other.ema,
        trouble=other.trouble,  # that of the replaced one, about its averaged weights, does not matter any more
    )


def _with_vae(checkpoint: Checkpoint, vae: CollectedPart) -> Checkpoint:
    """The checkpoint with another VAE. The scale of the latents is the model's own, unless the VAE's file says one."""
    families = [found or "" for found in (_family(checkpoint), vae.whole)]
    if all(families) and len({found.startswith("sdxl") for found in families}) > 1:
        raise LdmError(
            f"{vae.checkpoint.path} has another kind of latents than {checkpoint.path}: one of the two is "
            f"{NAMES['sdxl']}; take a VAE that was made for this model"
        )
    scaled = CONFIG in vae.checkpoint.metadata or "scaling_factor" in vae.checkpoint.settings.get("vae", {})
    metadata, settings = dict(checkpoint.metadata), dict(checkpoint.settings)
    if CONFIG in metadata:
        config = Config.from_json(metadata[CONFIG])
        scale = vae.config.scale if scaled else config.vae.scale
        own = replace(vae.config, scale=scale, float16=config.vae.float16)
        metadata[CONFIG] = replace(config, vae=own).to_json()
    said = {"scaling_factor": vae.config.scale} if scaled else settings.get("vae", {})
    scales = {key: value for key, value in said.items() if key == "scaling_factor"}
    upcast = {
        key: value for key, value in vae.checkpoint.settings.get("vae", {}).items() if key == "force_upcast"
    }
    settings["vae"] = {"norm_num_groups": vae.config.groups} | scales | upcast
    parts = {**checkpoint.parts, "vae": vae.part}
    return replace(checkpoint, parts=parts, settings=settings, metadata=metadata)
