r"""What shapes cannot tell, as diffusers and transformers write it in JSON beside the weights; and back.

Their files also switch on variants of the architecture that Stable Diffusion does not use, and repeat what the tensors
say; `ldm.checkpoints.check_settings` checks that all of it agrees with the model.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ldm.checkpoints.schedules import schedule_of_betas
from ldm.config import AddedConfig, Config, TextConfig
from ldm.errors import LdmError, shown
from ldm.files.typed_json import from_json_value

SCHEDULES = {"scaled_linear": "scaled_linear", "linear": "linear", "cosine": "squaredcos_cap_v2"}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}

# Part of our config -> folder of theirs, and our names -> theirs for what is taken over as it is.
SAME = {
    "unet": ("unet", {"groups": "norm_num_groups"}),
    "vae": ("vae", {"groups": "norm_num_groups", "scale": "scaling_factor"}),
    "text": ("text_encoder", {"heads": "num_attention_heads", "activation": "hidden_act"}),
    "text_2": ("text_encoder_2", {"heads": "num_attention_heads", "activation": "hidden_act"}),
    "noise": ("scheduler", {
        "steps": "num_train_timesteps", "beta_start": "beta_start", "beta_end": "beta_end",
        "zero_snr": "rescale_betas_zero_snr",
    }),
}  # fmt: skip
# The same for what the tensors' shapes tell: it is written and compared, and not taken over.
FROM_SHAPES = {
    "unet": {
        "in_channels": "in_channels", "out_channels": "out_channels", "res_per_level": "layers_per_block",
        "context_width": "cross_attention_dim",
    },
    "vae": {"res_per_level": "layers_per_block", "latent_channels": "latent_channels"},
    "text": {"vocab_size": "vocab_size", "context_length": "max_position_embeddings", "width": "hidden_size"},
    "text_2": {"vocab_size": "vocab_size", "context_length": "max_position_embeddings", "width": "hidden_size"},
    "noise": {},
}  # fmt: skip


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """The config with what the JSON of a diffusers folder says about it. Raises `LdmError` for what we cannot build."""
    unet, noise = (settings.get(part, {}) for part in ("unet", "scheduler"))
    # As plain tables, so that everything from outside passes the checks of `Config.from_json`.
    table = json.loads(config.to_json())
    for part, (folder, names) in SAME.items():
        theirs = settings.get(folder, {}) if table[part] is not None else {}
        if "num_hidden_layers" in theirs:
            table[part]["layers"] = _layers(theirs["num_hidden_layers"], getattr(config, part), folder)
        if table[part] is not None:
            table[part] |= {ours: theirs[other] for ours, other in names.items() if other in theirs}
    if "beta_schedule" in noise:
        table["noise"]["schedule"] = _ours(SCHEDULES, noise["beta_schedule"])
    if "prediction_type" in noise:
        table["noise"]["prediction"] = _ours(PREDICTIONS, noise["prediction_type"])
    if unet.get("sample_size") is not None:
        table["defaults"]["size"] = _square(unet["sample_size"]) * config.vae.factor
    table["defaults"] |= settings.get("defaults", {})
    if config.unet.added:  # other models' JSON says the same, and means nothing by it
        if "force_upcast" in settings.get("vae", {}):
            table["vae"]["float16"] = not settings["vae"]["force_upcast"]
        if "force_zeros_for_empty_prompt" in settings.get("", {}):
            zero = settings[""]["force_zeros_for_empty_prompt"]
            table["defaults"]["empty_negative"] = "zero" if zero else "encoded"
    heads = unet.get("num_attention_heads") or unet.get("attention_head_dim")  # the number, under either name
    levels = table["unet"]["levels"]
    each = heads if isinstance(heads, list) else [heads] * len(levels)
    if len(each) != len(levels):
        raise LdmError(f"unet: its config has heads for {len(each)} levels; its tensors make {len(levels)}")
    for level, number in zip(levels, each):
        level["heads"] = level["heads"] if number is None else number
    found: Config = from_json_value(Config, table, "config")
    if noise.get("trained_betas") is not None:
        found = replace(found, noise=schedule_of_betas(noise["trained_betas"], found.noise))
    return found


def _square(size: Any) -> int:
    """The side of a latent: one number, or height and width, which must be equal here."""
    sides = size if isinstance(size, list) else [size]
    if not sides or not all(type(side) is int and side == sides[0] for side in sides):
        raise LdmError(f"unet: its config has sample_size = {shown(size)}; expected one whole number")
    return int(sides[0])


def _layers(number: Any, text: TextConfig, folder: str) -> int:
    """Layers of a text encoder. Its file may have more; transformers, too, leaves out those beyond this number."""
    unbuilt = text.layers - text.layers_built  # these count here, though they are not in the file
    if type(number) is not int or not 0 < number <= text.layers_built:
        raise LdmError(
            f"{folder}: its config has num_hidden_layers = {shown(number)}; its tensors make {text.layers_built}"
        )
    return number + unbuilt


def _ours(table: dict[str, str], theirs: Any) -> Any:
    found = next((ours for ours, name in table.items() if name == theirs), None)
    if found is None:
        raise LdmError(f"its scheduler has {shown(theirs)}; expected one of {', '.join(table.values())}")
    return found


def settings_of(config: Config, linear_projection: bool) -> dict[str, dict[str, Any]]:
    """The JSON of a diffusers folder, by part: what `StableDiffusionPipeline.from_pretrained` builds our model from."""
    written = {"": _index(config)}
    others = {"unet": _unet(config, linear_projection), "vae": _vae(config), "noise": _scheduler(config)}
    for part, (folder, names) in SAME.items():
        ours = getattr(config, part)
        if ours is None:
            continue
        more = others.get(part) or _text(ours, config)
        same = {theirs: getattr(ours, name) for name, theirs in (names | FROM_SHAPES[part]).items()}
        written[folder] = more | same
    return written


def _text_class(text: TextConfig) -> str:
    return "CLIPTextModelWithProjection" if text.pooled_width else "CLIPTextModel"


def _index(config: Config) -> dict[str, Any]:
    inpaint = "Inpaint" * (config.unet.in_channels == 9)
    if config.unet.added:
        return _index_xl(config, inpaint)
    return {
        "_class_name": f"StableDiffusion{inpaint}Pipeline",
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", _scheduler(config)["_class_name"]],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }


def _index_xl(config: Config, inpaint: str) -> dict[str, Any]:
    refiner = config.text_2 is None  # whose one text encoder is the second of the base model
    first, absent = ["transformers", "CLIPTextModel"], [None, None]
    return {
        "_class_name": f"StableDiffusionXL{'Img2Img' if refiner else inpaint}Pipeline",
        "text_encoder": absent if refiner else first,
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": absent if refiner else ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", _scheduler(config)["_class_name"]],
        "force_zeros_for_empty_prompt": config.defaults.empty_negative == "zero",
        **({"requires_aesthetics_score": True} if refiner else {}),
    }


def _unet(config: Config, linear_projection: bool) -> dict[str, Any]:
    levels, mid_depth = config.unet.levels, config.unet.mid_depth
    depths = [level.depth for level in levels]
    if depths[-1] not in (0, mid_depth):
        raise LdmError(
            f"diffusers gives the middle the depth of the last level, {depths[-1]}; this model's has {mid_depth}"
        )
    return (
        {
            "_class_name": "UNet2DConditionModel",
            "sample_size": config.defaults.size // config.vae.factor,
            "block_out_channels": [level.channels for level in levels],
            "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
            "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in depths[::-1]],
            # At a level without cross-attention (depth 0) the number is not read, but the last is also the middle's.
            "transformer_layers_per_block": [depth or 1 for depth in depths[:-1]] + [depths[-1] or mid_depth],
            "attention_head_dim": [level.heads for level in levels],  # the number of heads, despite its name
            "use_linear_projection": linear_projection,
        }
        | _added(config.unet.added)
        | _told(config.unet.guidance_width)
    )


def _told(guidance_width: int | None) -> dict[str, Any]:
    return {} if guidance_width is None else {"time_cond_proj_dim": guidance_width}


def _added(added: AddedConfig | None) -> dict[str, Any]:
    if added is None:
        return {}
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": added.sinusoid_width,
        "projection_class_embeddings_input_dim": added.pooled_width + added.numbers * added.sinusoid_width,
    }


def _vae(config: Config) -> dict[str, Any]:
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": config.defaults.size,
        "block_out_channels": list(config.vae.channels),
        "down_block_types": ["DownEncoderBlock2D"] * len(config.vae.channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(config.vae.channels),
        **({} if config.vae.float16 else {"force_upcast": True}),
    }


def _text(text: TextConfig, config: Config) -> dict[str, Any]:
    return {
        "architectures": [_text_class(text)],
        "model_type": "clip_text_model",
        "intermediate_size": 4 * text.width,
        "num_hidden_layers": text.layers_built,  # one that nothing reads is not in the file
        "layer_norm_eps": 1e-5,
        "projection_dim": text.pooled_width or config.embedding_width or text.width,
        "bos_token_id": text.vocab_size - 2,
        "eos_token_id": text.vocab_size - 1,
    }


# What diffusers calls the default samplers of models for few steps, which its usual ones would spoil.
SCHEDULERS = {
    "lcm": "LCMScheduler",
    "tcd": "TCDScheduler",
    "euler_trailing": "EulerDiscreteScheduler",
    "euler_ancestral_trailing": "EulerAncestralDiscreteScheduler",
    "ddim_trailing": "DDIMScheduler",
}


def _scheduler(config: Config) -> dict[str, Any]:
    usual = "EulerDiscreteScheduler" if config.unet.added else "DDIMScheduler"
    name = SCHEDULERS.get(config.defaults.sampler, usual)
    if name.startswith(("Euler", "LCM")):
        return _described(config) | {"_class_name": name, "steps_offset": 1}
    return _described(config) | {
        "_class_name": name,
        # As the row of DDIM has it (`ldm.diffusion.samplers.table`): the last step goes from t = 1 to t = 0.
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }


def _described(config: Config) -> dict[str, Any]:
    trailing = config.noise.zero_snr or config.defaults.sampler.endswith("_trailing")
    return {
        "beta_schedule": SCHEDULES[config.noise.schedule],
        "prediction_type": PREDICTIONS[config.noise.prediction],
        "timestep_spacing": "trailing" if trailing else "leading",
    }
