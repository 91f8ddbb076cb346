r"""A whole model, gathered from any form of checkpoint: its config, its tokenizer, and its tensors under our names."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ldm.config import Config
from ldm.convert.checkpoint import Checkpoint
from ldm.convert.configure import configure
from ldm.convert.fitting import configs_of, demand, fit, on_meta
from ldm.convert.opening import open_checkpoint
from ldm.convert.words import with_tokenizer
from ldm.pipeline import LatentDiffusion
from ldm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Gathered:
    """Everything that a model is made of. The tensors are mapped, not read."""

    checkpoint: Checkpoint
    model: LatentDiffusion  # on the meta device: all but its weights
    tensors: dict[str, dict[str, Tensor]]  # by part: "text", "vae", "unet"
    dropped: tuple[str, ...]  # what the file has and a model does not keep

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
) -> Gathered:
    """Open, recognise and check a checkpoint. Raises `LdmError` for anything that is no whole model."""
    return gather_from(open_checkpoint(path, weights), config, prediction)


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
    return Gathered(checkpoint, model, fitted.tensors, dropped)
