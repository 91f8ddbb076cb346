r"""What shapes cannot tell, as diffusers and transformers write it in JSON beside the weights; and back.

Their files also switch on variants of the architecture that Stable Diffusion does not use. A value that would make
another network of the same tensors is an error here, not something to be passed over.
"""

import json
from collections.abc import Mapping
from typing import Any

from ldm.config import Config
from ldm.errors import LdmError

SCHEDULES = {"scaled_linear": "scaled_linear", "linear": "linear", "cosine": "squaredcos_cap_v2"}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}

# What a file must say if it says anything: other values are other networks.
FIXED: dict[str, dict[str, Any]] = {
    "unet": {
        "act_fn": "silu",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "norm_eps": 1e-5,
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "center_input_sample": False,
        "dual_cross_attention": False,
        "resnet_time_scale_shift": "default",
    },
    "vae": {"act_fn": "silu", "shift_factor": None},
    "text_encoder": {"layer_norm_eps": 1e-5},
    "scheduler": {"trained_betas": None},
}


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """The config with what the JSON of a diffusers folder says about it. Raises `LdmError` for what we cannot build."""
    for part, fixed in FIXED.items():
        said = settings.get(part, {})
        for key, value in fixed.items():
            if key in said and said[key] != value:
                raise LdmError(f"{part}: its config has {key} = {said[key]!r}; expected {value!r}")
    unet, vae, text = (settings.get(part, {}) for part in ("unet", "vae", "text_encoder"))
    noise = settings.get("scheduler", {})
    # As plain tables, so that everything from outside passes the checks of `Config.from_json`.
    table = json.loads(config.to_json())
    _take(table["unet"], unet, {"groups": "norm_num_groups"})
    _take(table["vae"], vae, {"groups": "norm_num_groups", "scale": "scaling_factor"})
    _take(table["text"], text, {"heads": "num_attention_heads", "activation": "hidden_act"})
    _take(
        table["noise"],
        noise,
        {"steps": "num_train_timesteps", "beta_start": "beta_start", "beta_end": "beta_end"},
    )
    if "beta_schedule" in noise:
        table["noise"]["schedule"] = _ours(SCHEDULES, noise["beta_schedule"])
    if "prediction_type" in noise:
        table["noise"]["prediction"] = _ours(PREDICTIONS, noise["prediction_type"])
    if isinstance(unet.get("sample_size"), int):
        table["defaults"]["size"] = unet["sample_size"] * config.vae.factor
    heads = unet.get("num_attention_heads") or unet.get("attention_head_dim")  # the number, under either name
    levels = table["unet"]["levels"]
    each = heads if isinstance(heads, list) else [heads] * len(levels)
    if len(each) != len(levels):
        raise LdmError(f"unet: its config has heads for {len(each)} levels; its tensors make {len(levels)}")
    for level, number in zip(levels, each):
        level["heads"] = level["heads"] if number is None else number
    found = Config.from_json(json.dumps(table))
    _demand_positive(found)
    return found


def _take(ours: dict[str, Any], theirs: Mapping[str, Any], names: dict[str, str]) -> None:
    """Take over what their table says, under our names."""
    ours |= {name: theirs[other] for name, other in names.items() if other in theirs}


def _demand_positive(config: Config) -> None:
    """Sizes that are whole numbers may still be none."""
    sizes = {
        "heads": min(config.text.heads, *(level.heads for level in config.unet.levels)),
        "groups": min(config.unet.groups, config.vae.groups),
        "steps of the noise schedule": config.noise.steps,
        "pixels": config.defaults.size,
        "scale of the latents": config.vae.scale,
    }
    wrong = [f"{value} {name}" for name, value in sizes.items() if not value > 0]
    if wrong:
        raise LdmError(f"its config has {' and '.join(wrong)}; expected more than none")


def _ours(table: dict[str, str], theirs: Any) -> Any:
    found = next((ours for ours, name in table.items() if name == theirs), None)
    if found is None:
        raise LdmError(f"its scheduler has {theirs!r}; expected one of {', '.join(table.values())}")
    return found


def settings_of(config: Config, linear_projection: bool) -> dict[str, dict[str, Any]]:
    """The JSON of a diffusers folder, by part: what `StableDiffusionPipeline.from_pretrained` builds our model from."""
    return {
        "": _index(config),
        "unet": _unet(config, linear_projection),
        "vae": _vae(config),
        "text_encoder": _text(config),
        "scheduler": {
            "_class_name": "DDIMScheduler",
            "num_train_timesteps": config.noise.steps,
            "beta_start": config.noise.beta_start,
            "beta_end": config.noise.beta_end,
            "beta_schedule": SCHEDULES[config.noise.schedule],
            "prediction_type": PREDICTIONS[config.noise.prediction],
            "rescale_betas_zero_snr": config.noise.zero_snr,
            "timestep_spacing": "trailing" if config.noise.zero_snr else "leading",
            # As the row of DDIM has it (`ldm.diffusion.samplers.table`): the last step goes from t = 1 to t = 0.
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
        },
    }


def _index(config: Config) -> dict[str, Any]:
    inpaint = "Inpaint" if config.unet.in_channels == 9 else ""
    return {
        "_class_name": f"StableDiffusion{inpaint}Pipeline",
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }


def _unet(config: Config, linear_projection: bool) -> dict[str, Any]:
    unet = config.unet
    depths = [level.depth for level in unet.levels]
    if depths[-1] not in (0, unet.mid_depth):
        raise LdmError(
            f"diffusers gives the middle the depth of the last level, {depths[-1]}; this model's has {unet.mid_depth}"
        )
    # A depth of 0 is a block without cross-attention; the number is then read for the middle only.
    transformers = [
        depth or (unet.mid_depth if i == len(depths) - 1 else 1) for i, depth in enumerate(depths)
    ]
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": config.defaults.size // config.vae.factor,
        "in_channels": unet.in_channels,
        "out_channels": unet.out_channels,
        "block_out_channels": [level.channels for level in unet.levels],
        "layers_per_block": unet.res_per_level,
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in depths[::-1]],
        "transformer_layers_per_block": transformers,
        "attention_head_dim": [level.heads for level in unet.levels],  # the number of heads, despite its name
        "cross_attention_dim": unet.context_width,
        "norm_num_groups": unet.groups,
        "use_linear_projection": linear_projection,
    }


def _vae(config: Config) -> dict[str, Any]:
    vae = config.vae
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": config.defaults.size,
        "block_out_channels": list(vae.channels),
        "down_block_types": ["DownEncoderBlock2D"] * len(vae.channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(vae.channels),
        "layers_per_block": vae.res_per_level,
        "latent_channels": vae.latent_channels,
        "norm_num_groups": vae.groups,
        "scaling_factor": vae.scale,
    }


def _text(config: Config) -> dict[str, Any]:
    text = config.text
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.context_length,
        "hidden_size": text.width,
        "intermediate_size": 4 * text.width,
        "num_hidden_layers": text.layers
        - (text.output == "penultimate"),  # the unused layer is not in the file
        "num_attention_heads": text.heads,
        "hidden_act": text.activation,
        "layer_norm_eps": 1e-5,
        "projection_dim": config.embedding_width or text.width,
        "bos_token_id": text.vocab_size - 2,
        "eos_token_id": text.vocab_size - 1,
    }
