r"""What a checkpoint says about itself, beside its shapes: who says it, in the words of diffusers' JSON.

Shapes do not tell what the U-Net predicts, how the noise is scheduled, or for which size the model was trained. These
may, the most trusted first:

- marks among the tensors, `v_pred` and `ztsnr`;
- `modelspec.*` in the metadata of a safetensors file (kohya's programs and ComfyUI write it);
- the JSON of a diffusers folder;
- `alphas_cumprod` among the tensors, the schedule that the original code computes with;
- a config of the original code beside the file, `model.yaml` beside `model.ckpt`;
- the file's name, where it says outright "vpred".

Where two differ, the more trusted is followed, and a line says so.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm.checkpoints.checkpoint import Checkpoint
from ldm.checkpoints.notes import note
from ldm.checkpoints.plain_yaml import Value, read_yaml
from ldm.checkpoints.schedules import schedule_of
from ldm.checkpoints.settings import SCHEDULES
from ldm.config import SD1, NoiseConfig
from ldm.errors import LdmError

Settings = dict[str, dict[str, Any]]
PREDICTIONS = {
    "v": "v_prediction", "v_prediction": "v_prediction", "v-prediction": "v_prediction", "velocity": "v_prediction",
    "epsilon": "epsilon", "eps": "epsilon",
}  # fmt: skip


@dataclass(frozen=True)
class Witness:
    """One source, and what it says, by part: {"scheduler": {"prediction_type": "v_prediction"}}."""

    who: str  # such as "the mark v_pred"
    says: Settings


def heard(checkpoint: Checkpoint) -> tuple[Settings, dict[tuple[str, str], str]]:
    """All that is said about a checkpoint, put together; and for each part and key, who said it.

    Raises `LdmError` for a config beside the file that cannot be read.
    """
    settings: Settings = {}
    sources: dict[tuple[str, str], str] = {}
    for witness in witnesses(checkpoint):
        for part, says in witness.says.items():
            for key, value in says.items():
                already = settings.setdefault(part, {}).setdefault(key, value)
                source = sources.setdefault((part, key), witness.who)
                if already != value and source != witness.who:
                    note(
                        f"{checkpoint.path}: {source} says {key} = {already!r}, {witness.who} says {value!r}; "
                        f"taking {already!r}"
                    )
    return settings, sources


def witnesses(checkpoint: Checkpoint) -> Iterator[Witness]:
    """Everybody who says something, the most trusted first."""
    if "v_pred" in checkpoint.marks:
        yield Witness("the mark v_pred in it", {"scheduler": {"prediction_type": "v_prediction"}})
    if "ztsnr" in checkpoint.marks:
        yield Witness("the mark ztsnr in it", {"scheduler": {"rescale_betas_zero_snr": True}})
    yield Witness("its metadata", from_modelspec(checkpoint.metadata))
    if checkpoint.settings:
        yield Witness("its config", {part: dict(table) for part, table in checkpoint.settings.items()})
    yield Witness("its table alphas_cumprod", _from_table(checkpoint))
    for path in (checkpoint.path.with_suffix(suffix) for suffix in (".yaml", ".yml")):
        if checkpoint.path.is_file() and path.is_file():
            yield Witness(f"{path.name} beside it", from_original(path))
    if said := prediction_in_name(checkpoint.path, OUTRIGHT):
        yield Witness(f"{said[0]!r} in its name", {"scheduler": {"prediction_type": said[1]}})


def from_modelspec(metadata: Mapping[str, str]) -> Settings:
    """`modelspec.*` as https://github.com/Stability-AI/ModelSpec describes it."""
    said = {key.removeprefix("modelspec."): value for key, value in metadata.items()}
    found: Settings = {}
    kind = PREDICTIONS.get((said.get("prediction_type") or said.get("predict_key") or "").lower())
    if kind is None:  # the names of Stable Diffusion 2's two forms tell it, too
        found_in = re.match(r"stable-diffusion-v2-(768-v|512)\b", said.get("architecture", "").lower())
        kind = {"768-v": "v_prediction", "512": "epsilon"}.get(found_in[1]) if found_in else None
    if kind is not None:
        found["scheduler"] = {"prediction_type": kind}
    size = re.fullmatch(r"(\d{2,5})(?:x(\d{2,5}))?", said.get("resolution", ""))
    if size and size[2] in (None, size[1]) and int(size[1]) % SD1.vae.factor == 0:
        found["defaults"] = {"size": int(size[1])}  # in pixels; diffusers has no setting for it
    return found


def _from_table(checkpoint: Checkpoint) -> Settings:
    table = checkpoint.alpha_bar
    if table is None or table.is_meta or not table.any():
        return {}
    found = schedule_of(table, NoiseConfig())
    if found is None:
        note(
            f"{checkpoint.path}: its table alphas_cumprod is none of the schedules known here, and not followed; if "
            "the images are not right, this may be why"
        )
        return {}
    if found == NoiseConfig():
        return {}
    said: dict[str, Any] = {"num_train_timesteps": found.steps, "beta_schedule": SCHEDULES[found.schedule]}
    if found.zero_snr:
        # From pure noise a prediction of eps recovers nothing: such a schedule is one of a model that predicts v.
        said |= {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    return {"scheduler": said}


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
}
ORIGINAL_SCHEDULES = {"linear": "scaled_linear", "sqrt_linear": "linear", "cosine": "squaredcos_cap_v2"}


def from_original(path: Path) -> Settings:
    """A config of the original code (CompVis, Stability), in diffusers' words. Raises `LdmError` if it is damaged."""
    table = read_yaml(path)
    said = {key.removeprefix("model.params."): value for key, value in table.items()}
    if "unet_config.target" not in said:
        raise LdmError(
            f"{path} is no config of Stable Diffusion (it has no model: params: unet_config:); move it away from the "
            "checkpoint, or put the right one there"
        )
    found: Settings = {
        # What the original code takes where its config says nothing.
        "scheduler": {
            "prediction_type": _among(path, "parameterization", said, PREDICTIONS | {"x0": "sample"}, "eps"),
            "beta_schedule": _among(path, "beta_schedule", said, ORIGINAL_SCHEDULES, "linear"),
        }
    }
    if said.get("cond_stage_config.params.layer") is not None:
        found["text_encoder"] = {"layer": said["cond_stage_config.params.layer"]}
    for name, (part, key) in ORIGINAL.items():
        if said.get(name) is not None:
            found.setdefault(part, {})[key] = said[name]
    return found


def _among(path: Path, key: str, said: Mapping[str, Value], words: Mapping[str, str], otherwise: str) -> str:
    word = str(said.get(key, otherwise)).lower()
    if word not in words:
        raise LdmError(f"{path} has {key}: {word[:60]!r}; expected one of {', '.join(words)}")
    return words[word]


# Words of a file's name that say outright what the model predicts, and those that only come with it: the form of Stable
# Diffusion 2 for 768 pixels predicts v, its base, for 512, eps. (A bare "v" is most often a version.)
OUTRIGHT = {r"v[-_. ]?pred(iction)?": "v_prediction", r"eps(ilon)?[-_. ]?pred(iction)?": "epsilon"}
IMPLIED = {r"768(px)?([-_. ]?v)?": "v_prediction", r"512(px)?|base\d*": "epsilon"}


def prediction_in_name(path: Path, patterns: Mapping[str, str]) -> tuple[str, str] | None:
    """A word of a file's name, and what it says the model predicts. None, too, if there are words for both."""
    name = re.sub(r"\.(safetensors|ckpt|pth?|bin)$", "", path.name.lower())
    found = [
        (match[0], kind)
        for pattern, kind in patterns.items()
        if (match := re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", name))
    ]
    return found[0] if len({kind for _, kind in found}) == 1 else None
