r"""Which config a checkpoint has: detected from its shapes and its JSON, or said by the caller."""

import logging
from dataclasses import replace

from ldm.config import SD1, SD2_BASE, Config, TextConfig, VAEConfig
from ldm.convert.checkpoint import PART_NAMES, Checkpoint
from ldm.convert.kinds import NAMES, SUPPORTED, family, foreign, prediction_of
from ldm.convert.names import some
from ldm.convert.opening import CONFIG, all_names
from ldm.convert.settings import with_settings
from ldm.convert.sizes import sized_config, text_config, vae_config
from ldm.errors import LdmError

log = logging.getLogger("ldm")


def configure(checkpoint: Checkpoint, config: Config | None = None, prediction: str | None = None) -> Config:
    """The config of a whole model. `config` is taken instead of what was detected, `prediction` instead of its own.

    Raises `LdmError` for what is no model, or one that this project cannot build yet.
    """
    if prediction not in (None, "eps", "v"):
        raise LdmError(f"prediction {prediction!r}; expected 'eps' or 'v'")
    if checkpoint.trouble:
        raise LdmError(f"{checkpoint.path}: {checkpoint.trouble}")
    if config is None:
        config = _detected(checkpoint, prediction)
    if prediction == "eps" and config.noise.zero_snr:
        log.warning(
            "%s: its noise schedule ends in zero signal, from which a prediction of eps recovers nothing; with "
            "prediction 'eps' the plain schedule is used instead",
            checkpoint.path,
        )
        config = replace(config, noise=replace(config.noise, zero_snr=False))
    if prediction is not None:
        config = replace(config, noise=replace(config.noise, prediction="v" if prediction == "v" else "eps"))
    if config.text.width != config.unet.context_width:
        raise LdmError(
            f"{checkpoint.path}: its text encoder is {config.text.width} wide, but its U-Net reads a context of width "
            f"{config.unet.context_width}; they belong to different models"
        )
    return config


def _detected(checkpoint: Checkpoint, prediction: str | None) -> Config:
    if CONFIG in checkpoint.metadata:  # we wrote it
        return Config.from_json(checkpoint.metadata[CONFIG])
    refuse_foreign(checkpoint)
    found = family(checkpoint)
    if found not in SUPPORTED:
        name = NAMES.get(found or "", found)
        raise LdmError(
            f"{checkpoint.path} is {name}, which is not supported yet; expected Stable Diffusion 1 or 2"
        )
    if found == "sd2" and "scheduler" not in checkpoint.settings:
        found = _sd2_variant(checkpoint, prediction)
    config = sized_config("sd2-base" if found == "sd2" else found, checkpoint.parts)
    config = with_settings(config, checkpoint.settings)
    if found == "sd2" and config.noise.prediction == "v":
        config = replace(config, name="sd2-v")
    if "v_pred" in checkpoint.marks:
        config = replace(config, noise=replace(config.noise, prediction="v"))
    # `ztsnr` describes the schedule, whoever says what the U-Net predicts. Without v it means nothing.
    if "ztsnr" in checkpoint.marks and "v" in (prediction, config.noise.prediction):
        config = replace(config, noise=replace(config.noise, zero_snr=True))
    return config


def _sd2_variant(checkpoint: Checkpoint, prediction: str | None) -> str:
    """Stable Diffusion 2 base and 2 for 768 pixels have the same shapes: something else must tell."""
    said = (prediction, "the caller says so") if prediction else prediction_of(checkpoint)
    if said is None:
        log.warning(
            "%s: nothing tells whether this Stable Diffusion 2 predicts eps (base) or v (768 pixels); taking eps. "
            "If the pictures come out as noise, load it with prediction='v' (--prediction v)",
            checkpoint.path,
        )
        return "sd2-base"
    log.info("%s predicts %s: %s (to change it: prediction=, --prediction)", checkpoint.path, *said)
    return "sd2-v" if said[0] == "v" else "sd2-base"


def refuse_foreign(checkpoint: Checkpoint) -> None:
    """Raise an `LdmError` for what is no whole model, naming it."""
    what = foreign(all_names(checkpoint))
    if what:
        raise LdmError(f"{checkpoint.path} is {what}; expected a checkpoint of Stable Diffusion")
    if not checkpoint.parts:
        names = list(checkpoint.strange)
        raise LdmError(
            f"{checkpoint.path} has {len(names)} tensors of an unknown kind ({some(names)}); expected a checkpoint "
            "of Stable Diffusion"
        )
    if list(checkpoint.parts) in (["vae"], ["text"]):
        part = next(iter(checkpoint.parts))
        raise LdmError(
            f"{checkpoint.path} is only a {PART_NAMES[part]}; open it with ldm.loading.load_{part}"
        )


def lone_config(checkpoint: Checkpoint) -> VAEConfig | TextConfig:
    """The config of a VAE or text encoder that comes alone, as far as it can be told from its shapes and its JSON."""
    [(name, part)] = checkpoint.parts.items()
    config = SD1
    if name == "vae":
        config = replace(config, vae=vae_config(part))
    elif name == "text":
        wide = text_config(part, "sd1").width >= SD2_BASE.text.width
        config = replace(config, text=text_config(part, "sd2" if part.layout == "compvis" or wide else "sd1"))
    else:
        raise LdmError(f"{checkpoint.path} is only a {PART_NAMES[name]}, which paints nothing alone")
    config = with_settings(config, checkpoint.settings)
    return config.vae if name == "vae" else config.text
