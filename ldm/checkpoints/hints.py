r"""What a checkpoint says about itself, besides its shapes: each source, in the words of diffusers' JSON.

Shapes do not tell what the U-Net predicts, how the noise is scheduled, or for which size the model was trained. These
sources may, the most trusted first:

- marks among the tensors, `v_pred` and `ztsnr`;
- `modelspec.*` in the metadata of a safetensors file (kohya's programs and ComfyUI write it);
- the JSON of a diffusers folder;
- `alphas_cumprod` and `scale_factor` among the tensors, with which the original code computes;
- a config of the original code beside the file, `model.yaml` beside `model.ckpt`;
- the file's name, where it says outright "vpred".

Where two differ, the more trusted is followed, and a note says so.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ldm.checkpoints.checkpoint import Checkpoint
from ldm.checkpoints.plain_yaml import Value, read_yaml
from ldm.checkpoints.schedules import schedule_of
from ldm.checkpoints.settings import SCHEDULES
from ldm.config import SD1, NoiseConfig
from ldm.errors import LdmError
from ldm.notes import log

Settings = dict[str, dict[str, Any]]  # by part: {"scheduler": {"prediction_type": "v_prediction"}}
PREDICTIONS = {
    "v": "v_prediction", "v_prediction": "v_prediction", "v-prediction": "v_prediction", "velocity": "v_prediction",
    "epsilon": "epsilon", "eps": "epsilon",
}  # fmt: skip


def collect_hints(checkpoint: Checkpoint) -> tuple[Settings, dict[tuple[str, str], str]]:
    """All that is said about a checkpoint, put together; and for each part and key, which source said it.

    Raises `LdmError` for a config beside the file that cannot be read.
    """
    settings: Settings = {}
    sources: dict[tuple[str, str], str] = {}
    for source, said in hints(checkpoint):
        for part, table in said.items():
            for key, value in table.items():
                already = settings.setdefault(part, {}).setdefault(key, value)
                first = sources.setdefault((part, key), source)
                if already != value and first != source:
                    log.warning(
                        f"{checkpoint.path}: {first} says {key} = {already!r}, {source} says {value!r}; "
                        f"taking {already!r}"
                    )
    return settings, sources


def hints(checkpoint: Checkpoint) -> Iterator[tuple[str, Settings]]:
    """Each source, such as "the mark v_pred in it", and what it says; the most trusted first."""
    path = checkpoint.path
    if "v_pred" in checkpoint.marks:
        yield "the mark v_pred in it", {"scheduler": {"prediction_type": "v_prediction"}}
    if "ztsnr" in checkpoint.marks:
        yield "the mark ztsnr in it", {"scheduler": {"rescale_betas_zero_snr": True}}
    yield "its metadata", from_modelspec(checkpoint.metadata)
    yield "its config", {part: dict(table) for part, table in checkpoint.settings.items()}
    yield "its table alphas_cumprod", _from_table(checkpoint)
    yield "its tensor scale_factor", _from_scale(checkpoint)
    for config in (path.with_suffix(suffix) for suffix in (".yaml", ".yml")):
        if path.is_file() and config.is_file():
            yield f"{config.name} beside it", from_original(config)
    networks = [checkpoint.parts["unet"].source] if "unet" in checkpoint.parts else []
    for named in dict.fromkeys([*networks, path]):  # the U-Net may be another file's
        if said := prediction_in_name(named, OUTRIGHT):
            yield f"{said[0]!r} in its name", {"scheduler": {"prediction_type": said[1]}}


def from_modelspec(metadata: Mapping[str, str]) -> Settings:
    """`modelspec.*` as https://github.com/Stability-AI/ModelSpec describes it."""
    said = {key.removeprefix("modelspec."): value for key, value in metadata.items()}
    found: Settings = {}
    prediction = PREDICTIONS.get((said.get("prediction_type") or said.get("predict_key") or "").lower())
    if prediction is None:  # the names of Stable Diffusion 2's two forms tell it, too
        form = re.match(r"stable-diffusion-v2-(768-v|512)\b", said.get("architecture", "").lower())
        prediction = {"768-v": "v_prediction", "512": "epsilon"}[form[1]] if form else None
    if prediction is not None:
        found["scheduler"] = {"prediction_type": prediction}
    size = re.fullmatch(r"(\d{2,5})(?:x(\d{2,5}))?", said.get("resolution", ""))
    if size and size[2] in (None, size[1]) and int(size[1]) % SD1.vae.factor == 0:
        found["defaults"] = {"size": int(size[1])}  # in pixels; diffusers has no setting for it
    return found


def _from_table(checkpoint: Checkpoint) -> Settings:
    table = checkpoint.buffers.get("alphas_cumprod")
    if table is None or table.is_meta or not table.any():
        return {}
    found = schedule_of(table, NoiseConfig())
    if found is None:
        log.warning(
            f"{checkpoint.path}: its table alphas_cumprod is none of the schedules known here, and not followed; if "
            "the images are not right, this may be why"
        )
    if found in (None, NoiseConfig()):
        return {}
    said: dict[str, Any] = {"num_train_timesteps": found.steps, "beta_schedule": SCHEDULES[found.schedule]}
    if found.zero_snr:
        # From pure noise a prediction of eps recovers nothing, so a model with such a schedule predicts v.
        said |= {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    return {"scheduler": said}


def _from_scale(checkpoint: Checkpoint) -> Settings:
    """The scale of the latents, where training measured it. (In half precision its digits are lost.)"""
    scale = checkpoint.buffers.get("scale_factor")
    if (
        scale is None
        or scale.is_meta
        or scale.numel() != 1
        or scale.dtype not in (torch.float32, torch.float64)
    ):
        return {}
    value = float(f"{scale.item():.6g}")  # 0.18215 in float32 is 0.182150006...
    return {"vae": {"scaling_factor": value}} if 0 < value < float("inf") else {}


# The original config's names for what diffusers' JSON says. (`beta_schedule`: see `from_original`.)
ORIGINAL = {
    "timesteps": ("scheduler", "num_train_timesteps"),
    "linear_start": ("scheduler", "beta_start"),
    "linear_end": ("scheduler", "beta_end"),
    "scale_factor": ("vae", "scaling_factor"),
    "unet_config.params.in_channels": ("unet", "in_channels"),
    "unet_config.params.out_channels": ("unet", "out_channels"),
    "unet_config.params.context_dim": ("unet", "cross_attention_dim"),
    "unet_config.params.num_res_blocks": ("unet", "layers_per_block"),
    "unet_config.params.num_heads": ("unet", "attention_head_dim"),
    "first_stage_config.params.embed_dim": ("vae", "latent_channels"),
    "cond_stage_config.params.layer": ("text_encoder", "layer"),
}
ORIGINAL_SCHEDULES = {"linear": "scaled_linear", "sqrt_linear": "linear", "cosine": "squaredcos_cap_v2"}


def from_original(path: Path) -> Settings:
    """A config of the original code (CompVis, Stability), in diffusers' words. Raises `LdmError` if it is damaged."""
    said = {key.removeprefix("model.params."): value for key, value in read_yaml(path).items()}
    if "network_config.target" in said:
        return _from_sgm(said)
    if "unet_config.target" not in said:
        raise LdmError(
            f"{path} is no config of Stable Diffusion (it has no model: params: unet_config:); move it away from the "
            "checkpoint, or put the right one there"
        )
    predictions = PREDICTIONS | {"x0": "sample"}
    found: Settings = {
        "scheduler": {  # with what the original code takes where its config says nothing
            "prediction_type": _translated(path, "parameterization", said, predictions, "eps"),
            "beta_schedule": _translated(path, "beta_schedule", said, ORIGINAL_SCHEDULES, "linear"),
        }
    }
    for name, (part, key) in ORIGINAL.items():
        if said.get(name) is not None:
            found.setdefault(part, {})[key] = said[name]
    return found


SCALINGS = {"EpsScaling": "epsilon", "VScaling": "v_prediction"}


def _from_sgm(said: Mapping[str, Value]) -> Settings:
    """A config of the original code of Stable Diffusion XL, which names a class for what the U-Net predicts."""
    found: Settings = {}
    scaling = str(said.get("denoiser_config.params.scaling_config.target")).rpartition(".")[2]
    if scaling in SCALINGS:
        found["scheduler"] = {"prediction_type": SCALINGS[scaling]}
    if said.get("scale_factor") is not None:
        found["vae"] = {"scaling_factor": said["scale_factor"]}
    return found


def _translated(path: Path, key: str, said: Mapping[str, Value], words: dict[str, str], default: str) -> str:
    word = str(said.get(key, default)).lower()
    if word not in words:
        raise LdmError(f"{path} has {key}: {word[:60]!r}; expected one of {', '.join(words)}")
    return words[word]


# Words of a file's name that say outright what the model predicts, and those that only come with it: the form of Stable
# Diffusion 2 for 768 pixels predicts v, its base, for 512, eps. (A bare "v" is most often a version.)
OUTRIGHT = {
    r"v[-_. ]?pred(iction)?": "v_prediction", r"eps(ilon)?[-_. ]?pred(iction)?": "epsilon",
    r"1step(_unet)?[-_. ]?x0": "sample",  # SDXL-Lightning's model of one step
}  # fmt: skip
IMPLIED = {r"768(px)?([-_. ]?v)?": "v_prediction", r"512(px)?|base\d*": "epsilon"}


def prediction_in_name(path: Path, patterns: Mapping[str, str]) -> tuple[str, str] | None:
    """A word of a file's name, and what it says the model predicts. None, too, if there are words for both."""
    name = re.sub(r"\.(safetensors|ckpt|pth?|bin)$", "", path.name.lower())
    found = [
        (match[0], prediction)
        for pattern, prediction in patterns.items()
        if (match := re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", name))
    ]
    return found[0] if len({prediction for _, prediction in found}) == 1 else None
