r"""A whole model, gathered from any form of checkpoint: its config, its tokenizer, and its tensors under our names."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ldm.checkpoints.checkpoint import PART_NAMES, Checkpoint, Part
from ldm.checkpoints.detect import NAMES, family
from ldm.checkpoints.diffusers_folder import FOLDERS
from ldm.checkpoints.infer_config import configure, lone_config, refuse_foreign
from ldm.checkpoints.opening import CONFIG, open_checkpoint
from ldm.checkpoints.tokenizer_io import with_tokenizer
from ldm.checkpoints.validate import configs_of, demand, fit, on_meta, skeleton, warn_ignored
from ldm.config import Config
from ldm.errors import LdmError
from ldm.pipeline import LatentDiffusion
from ldm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Gathered:
    """Everything that a model is made of. The tensors are mapped, not read."""

    checkpoint: Checkpoint
    model: LatentDiffusion  # on the meta device: all but its weights
    tensors: dict[str, dict[str, Tensor]]  # by part: "text", "vae", "unet"
    dropped: tuple[str, ...]  # what the file has and a model does not keep
    ignored: tuple[str, ...] = ()  # what is not known

    @property
    def config(self) -> Config:
        return self.model.config

    @property
    def tokenizer(self) -> Tokenizer:
        return self.model.tokenizer


def gather(
    path: Path,
    config: Config | None = None,
    weights: str | None = None,
    prediction: str | None = None,
    vae: Path | None = None,
) -> Gathered:
    """Open, recognise and check a checkpoint, with the VAE of another one if `vae` says which.

    Raises `LdmError` for anything that is no whole model.
    """
    checkpoint = open_checkpoint(path, weights)
    if vae is not None:
        checkpoint = _with_vae(checkpoint, gather_part(vae, "vae"))
    made = gather_from(checkpoint, config, prediction)
    warn_ignored(made.ignored, checkpoint.path)
    return made


def gather_from(
    checkpoint: Checkpoint, config: Config | None = None, prediction: str | None = None
) -> Gathered:
    """A model of a checkpoint that is already open. `inspect` asks this, too, whether a checkpoint can be loaded."""
    found = configure(checkpoint, config, prediction)
    found, tokenizer = with_tokenizer(checkpoint, found)
    model = on_meta("model", lambda: LatentDiffusion(found, tokenizer))
    configs = configs_of(found)
    fitted = fit(checkpoint, configs, {name: getattr(model, name) for name in configs})
    demand(fitted, checkpoint)
    dropped = fitted.dropped
    if (checkpoint.path / "clip.safetensors").is_file():
        dropped += ("clip.safetensors",)  # the image half of CLIP, which painting does without
    return Gathered(checkpoint, model, fitted.tensors, dropped, fitted.left_over)


@dataclass(frozen=True)
class GatheredPart:
    """One network out of a checkpoint. Its tensors are mapped, not read."""

    checkpoint: Checkpoint
    part: Part  # under our names
    config: Any
    network: nn.Module  # on the meta device

    @property
    def says_scale(self) -> bool:
        """Whether the file of a VAE says how its latents are scaled."""
        said = self.checkpoint.settings.get("vae", {})
        return CONFIG in self.checkpoint.metadata or "scaling_factor" in said


def gather_part(path: Path, name: str) -> GatheredPart:
    """One network, "vae" or "text", of a file or folder that holds it alone or with others. Raises `LdmError`."""
    checkpoint = open_checkpoint(path)
    if set(checkpoint.parts) <= {"unet"}:
        refuse_foreign(checkpoint)
    if name not in checkpoint.parts:
        held = " and ".join(f"a {PART_NAMES[part]}" for part in checkpoint.parts)
        raise LdmError(f"{path} holds {held}; expected a {PART_NAMES[name]}, alone or in a whole model")
    if "unet" in checkpoint.parts and CONFIG not in checkpoint.metadata:
        whole = family(checkpoint) or ""
        if whole.startswith("sdxl"):  # other latents, another text encoder, under the same names
            raise LdmError(
                f"{path} is {NAMES[whole]}; expected a {PART_NAMES[name]} of Stable Diffusion 1 or 2"
            )
    settings = {key: value for key, value in checkpoint.settings.items() if key == FOLDERS[name]}
    alone = replace(
        checkpoint, parts={name: checkpoint.parts[name]}, settings=settings, strange=(), dropped=()
    )
    config = lone_config(alone)
    network = skeleton(name, config)
    found = fit(alone, {name: config}, {name: network})
    demand(found, alone)
    warn_ignored(found.left_over, alone.path)
    return GatheredPart(alone, Part(found.tensors[name], "ours", alone.parts[name].source), config, network)


def _with_vae(checkpoint: Checkpoint, vae: GatheredPart) -> Checkpoint:
    """The checkpoint with another VAE. The scale of the latents is the model's own, unless the VAE's file says one."""
    metadata, settings = dict(checkpoint.metadata), dict(checkpoint.settings)
    if CONFIG in metadata:
        config = Config.from_json(metadata[CONFIG])
        scale = vae.config.scale if vae.says_scale else config.vae.scale
        metadata[CONFIG] = replace(config, vae=replace(vae.config, scale=scale)).to_json()
    said = {"scaling_factor": vae.config.scale} if vae.says_scale else settings.get("vae", {})
    scale = {key: value for key, value in said.items() if key == "scaling_factor"}
    settings["vae"] = {"norm_num_groups": vae.config.groups} | scale
    return replace(
        checkpoint, parts={**checkpoint.parts, "vae": vae.part}, settings=settings, metadata=metadata
    )
