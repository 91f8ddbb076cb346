r"""Which config a checkpoint has: detected from its shapes and its JSON, or given by the caller."""

from dataclasses import replace

from ldm.checkpoints.check_settings import check_settings
from ldm.checkpoints.checkpoint import PART_NAMES, Checkpoint, Part
from ldm.checkpoints.detect import NAMES, SUPPORTED, family, foreign_class, foreign_metadata
from ldm.checkpoints.flavours import sampling, with_flavour
from ldm.checkpoints.foreign import foreign
from ldm.checkpoints.hints import IMPLIED, collect_hints, prediction_in_name
from ldm.checkpoints.infer_sizes import sized_config, text_config, vae_config, whole_folder
from ldm.checkpoints.opening import CONFIG, OWN_PARTS, all_names
from ldm.checkpoints.settings import PREDICTIONS, with_settings
from ldm.config import OPENCLIP_BIGG_TEXT, SD1, SD2_BASE, Config, TextConfig, VAEConfig
from ldm.errors import LdmError, shown, some
from ldm.notes import log


def configure(checkpoint: Checkpoint, config: Config | None = None, prediction: str | None = None) -> Config:
    """The config of a whole model. `config` replaces what is detected, `prediction` only what the U-Net predicts.

    Raises `LdmError` for what is not a model, or one that this project cannot build yet.
    """
    if prediction not in (None, "eps", "v"):
        raise LdmError(f"prediction {prediction!r}; expected 'eps' or 'v'")
    if checkpoint.trouble:
        raise LdmError(f"{checkpoint.path}: {checkpoint.trouble}")
    if config is None:
        config = _detected(checkpoint, prediction)
    if prediction is not None:
        config = replace(config, noise=replace(config.noise, prediction="v" if prediction == "v" else "eps"))
    if config.noise.prediction == "eps" and config.noise.zero_snr:
        log.warning(
            f"{checkpoint.path}: its noise schedule ends in zero signal, from which a prediction of eps recovers "
            "nothing; with prediction 'eps' the plain schedule is used instead"
        )
        config = replace(config, noise=replace(config.noise, zero_snr=False))
    widths = [text.width for text in (config.text, config.text_2) if text is not None]
    if sum(widths) != config.unet.context_width:
        each = " and ".join(map(str, widths))
        raise LdmError(
            f"{checkpoint.path}: its text encoder is {each} wide, but its U-Net reads a context of width "
            f"{config.unet.context_width}; they belong to different models"
        )
    if config.vae.latent_channels != config.unet.out_channels:
        raise LdmError(
            f"{checkpoint.path}: its VAE makes latents of {config.vae.latent_channels} channels, but its U-Net "
            f"predicts {config.unet.out_channels}; they belong to different models"
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
            f"{checkpoint.path} is {name}, which is not supported yet; expected version 1, 2 or XL"
        )
    if "text_2" in checkpoint.parts and not found.startswith("sdxl"):
        log.warning(f"{checkpoint.path}: its second text encoder is not used; its U-Net has no place for one")
    settings, sources = collect_hints(checkpoint)
    said = settings.get("scheduler", {}).get("prediction_type")
    notable = found.startswith("sd2") or (found.startswith("sdxl") and said == "v_prediction")
    if prediction is None and said is not None and notable:
        _note_prediction(checkpoint, said, f"{sources['scheduler', 'prediction_type']} says so")
    if found == "sd2":
        predicts_v = said == "v_prediction" if said else _sd2_predicts_v(checkpoint, prediction)
        found = "sd2-v" if predicts_v else "sd2-base"
    config = with_settings(sized_config(found, checkpoint.parts, _layers_given(settings)), settings)
    sized = "defaults" in settings or settings.get("unet", {}).get("sample_size") is not None
    config = with_flavour(checkpoint, config, sized)
    if config.unet.guidance_width:
        own = config.defaults
        usual = sampling(own.steps, own.sampler, own.guidance)
        log.info(f"{checkpoint.path} is {NAMES[found]}, by its tensors: by default {usual}")
    check_settings(config, settings, not found.startswith("sd1"), sources)
    return config


def _layers_given(settings: dict[str, dict[str, object]]) -> bool:
    return "num_hidden_layers" in settings.get("text_encoder", {})


def _sd2_predicts_v(checkpoint: Checkpoint, prediction: str | None) -> bool:
    """Stable Diffusion 2 base and 2 for 768 pixels have the same shapes: something else must tell."""
    if prediction is not None:
        return prediction == "v"
    said = prediction_in_name(checkpoint.path, IMPLIED)
    if said is None:
        log.warning(
            f"{checkpoint.path}: nothing tells whether this Stable Diffusion 2 predicts eps (base) or v (768 pixels); "
            "taking eps. If the images come out as noise, load it with prediction='v' (--prediction v)"
        )
        return False
    _note_prediction(checkpoint, said[1], f"the file's name has {said[0]!r} in it")
    return said[1] == "v_prediction"


def _note_prediction(checkpoint: Checkpoint, said: str, why: str) -> None:
    kind = next((ours for ours, theirs in PREDICTIONS.items() if theirs == said), shown(said))
    log.info(f"{checkpoint.path} predicts {kind}: {why} (to change it: prediction=, --prediction)")


def refuse_foreign(checkpoint: Checkpoint) -> None:
    """Raise an `LdmError` for what is not a whole model, saying what it is."""
    what = foreign(all_names(checkpoint)) or foreign_class(checkpoint.settings)
    claimed = foreign_metadata(checkpoint.metadata)
    if claimed and all(part in checkpoint.parts for part in OWN_PARTS):
        log.warning(
            f"{checkpoint.path} is {claimed}; its tensors are a whole Stable Diffusion's, and opened so"
        )
        claimed = None
    if what or claimed:
        raise LdmError(f"{checkpoint.path} is {what or claimed}; expected a checkpoint of Stable Diffusion")
    unknown = f"{len(checkpoint.unknown)} tensors of an unknown kind ({some(checkpoint.unknown)})"
    if not checkpoint.parts:
        raise LdmError(f"{checkpoint.path} has {unknown}; expected a checkpoint of Stable Diffusion")
    if list(checkpoint.parts) in (["vae"], ["text"]):
        [(part, found)] = checkpoint.parts.items()
        if checkpoint.unknown:
            raise LdmError(
                f"{checkpoint.path} holds a {PART_NAMES[part]} and {unknown}; expected a checkpoint of Stable Diffusion"
            )
        as_vae = ", or give it to a model with vae=... (--vae FILE)" if part == "vae" else ""
        raise LdmError(
            f"{checkpoint.path} is only a {PART_NAMES[part]}; open it with ldm.loading.load_{part}{as_vae}"
            + whole_folder(found.source)
        )


def lone_config(checkpoint: Checkpoint) -> VAEConfig | TextConfig:
    """The config of a VAE or text encoder that comes alone, as far as it can be told from its shapes and its JSON."""
    [(name, part)] = checkpoint.parts.items()
    if name not in ("vae", "text"):
        raise LdmError(f"{checkpoint.path} is only a {PART_NAMES[name]}, which makes no image alone")
    if CONFIG in checkpoint.metadata:  # we wrote it
        config = Config.from_json(checkpoint.metadata[CONFIG])
        return config.vae if name == "vae" else config.text
    config = (
        replace(SD1, vae=vae_config(part))
        if name == "vae"
        else replace(SD1, text=_lone_text(checkpoint, part))
    )
    if what := foreign_class(checkpoint.settings):
        raise LdmError(f"{checkpoint.path} is {what}; expected a {PART_NAMES[name]} of Stable Diffusion")
    config = with_settings(config, checkpoint.settings)
    check_settings(config, checkpoint.settings, linear_projection=False)
    return config.vae if name == "vae" else config.text


def _lone_text(checkpoint: Checkpoint, part: Part) -> TextConfig:
    """The config of a text encoder alone: version 1 has CLIP's, version 2 OpenCLIP's, told apart by their width.

    Others are taken by their names: OpenCLIP's, or transformers', which both versions have.
    """
    width = text_config(part, "sd1").width
    known = {SD1.text.width: "sd1", SD2_BASE.text.width: "sd2", OPENCLIP_BIGG_TEXT.width: "sdxl_2"}
    version = known.get(width)
    if version is None:
        version = "sd2" if part.layout == "compvis" else "sd1"
        log.warning(
            f"{checkpoint.path}: a text encoder {width} wide is neither that of Stable Diffusion 1 ({SD1.text.width}) "
            f"nor that of 2 ({SD2_BASE.text.width}); taking it as one of {version[-1]}, by the names of its tensors"
        )
    return text_config(part, version, _layers_given(dict(checkpoint.settings)))
