r"""Whether a model is the one that its JSON describes: every key of it is accounted for.

`ldm.checkpoints.settings` takes from a diffusers folder's JSON what shapes cannot tell. Every other key is checked
here:

- keys that `settings_of` writes must say what it would write for this model: 320 channels for tensors of 320 channels;
- switches of the architecture must be set as Stable Diffusion has them (`SWITCHES`);
- the scheduler's sampling options are up to the sampler here; where they differ, one line says so;
- an unknown key is named in a warning.

So a value that would make another network of the same tensors is an error, and none is ignored in silence.
"""

import re
from collections.abc import Mapping
from typing import Any

from ldm.checkpoints.settings import SAME, settings_of
from ldm.config import Config
from ldm.errors import LdmError, shown, some
from ldm.notes import log


def _each(names: str, *good: Any) -> dict[str, tuple[Any, ...]]:
    return dict.fromkeys(names.split(), good)


# Switches of the libraries' networks, each with the values that leave Stable Diffusion's network as it is. (Both
# libraries write every switch, most of them off.)
SWITCHES: dict[str, dict[str, tuple[Any, ...]]] = {
    "unet": {
        **_each("act_fn", "silu", "swish"),
        **_each("flip_sin_to_cos", True),
        **_each("freq_shift", 0),
        **_each("norm_eps", 1e-5),
        **_each("downsample_padding mid_block_scale_factor resnet_out_scale_factor", 1),
        **_each("conv_in_kernel conv_out_kernel", 3),
        **_each("mid_block_type", "UNetMidBlock2DCrossAttn"),
        **_each("time_embedding_type", "positional"),
        **_each("attention_type resnet_time_scale_shift", "default"),
        **_each("mid_block_only_cross_attention", None, False),
        **_each("center_input_sample dual_cross_attention only_cross_attention resnet_skip_time_act", False),
        **_each("class_embeddings_concat", False),
        **_each("time_embedding_dim time_embedding_act_fn timestep_post_act", None),
        **_each("cross_attention_norm class_embed_type num_class_embeds encoder_hid_dim", None),
        **_each("encoder_hid_dim_type", None),
        **_each("reverse_transformer_layers_per_block", None),
    },
    "vae": {
        **_each("act_fn", "silu", "swish"),
        **_each("in_channels out_channels", 3),
        **_each("shift_factor", None, 0),
        **_each("latents_mean latents_std", None),
        **_each("use_quant_conv use_post_quant_conv mid_block_add_attention", True),
    },
    "text_encoder": {**_each("layer_norm_eps", 1e-5), **_each("model_type", "clip_text_model", "clip")},
    "scheduler": {},
}  # fmt: skip

# Settings of Stable Diffusion XL's U-Net, and of one that is told the guidance, which are None in others.
ADDED = (
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
    "time_cond_proj_dim",
)

# What says nothing about the network or its numbers: training, precision, origin; and what only the other libraries'
# code reads, such as where transformers looks for a summary of the text, which Stable Diffusion does not use.
# What `settings_of` writes of these is written for the others alone.
FOR_OTHERS: dict[str, set[str]] = {
    "": {"requires_safety_checker", "safety_checker", "feature_extractor", "image_encoder"},
    "unet": {"dropout", "upcast_attention", "addition_embed_type_num_heads"},
    "vae": {"sample_size", "force_upcast"},
    "text_encoder": {
        "projection_dim", "bos_token_id", "eos_token_id", "pad_token_id", "attention_dropout", "dropout", "dtype",
        "torch_dtype", "initializer_factor", "initializer_range", "transformers_version",
    },
    "scheduler": set(),
}  # fmt: skip

# What `ldm.checkpoints.settings` takes over besides `SAME`, from whichever scheduler. (`_class_name` and the like:
# `ldm.checkpoints.detect`.)
TAKEN = {
    "scheduler": {"beta_schedule", "trained_betas", "prediction_type"},
    "unet": {"attention_head_dim", "num_attention_heads", "sample_size"},
    "vae": set(),
    "text_encoder": {"num_hidden_layers"},
}
SWITCHES["text_encoder_2"] = SWITCHES["text_encoder"]
FOR_OTHERS["text_encoder_2"] = FOR_OTHERS["text_encoder"]
TAKEN["text_encoder_2"] = TAKEN["text_encoder"]
for _part, _names in SAME.values():
    TAKEN[_part].update(_names.values())

# How the samplers here work, whatever the scheduler's JSON says. (diffusers' own pipeline for Stable Diffusion also
# forces the first two.)
SAMPLING: dict[str, tuple[Any, ...]] = {
    **_each("clip_sample set_alpha_to_one thresholding euler_at_final", False),
    **_each("steps_offset", 1),
    **_each("skip_prk_steps lower_order_final predict_x0", True),
    **_each("use_karras_sigmas use_exponential_sigmas use_beta_sigmas", False, None),
    **_each("use_lu_lambdas use_flow_sigmas", False, None),
    **_each("interpolation_type", "linear"),
    **_each("timestep_type", "discrete"),
    **_each("final_sigmas_type", "zero"),
    **_each("sigma_min sigma_max", None),
    **_each("variance_type", "fixed_small", None),
    **_each("algorithm_type", "dpmsolver++"),
    **_each("solver_type", "midpoint", "bh2"),
    **_each("solver_order", 2),
    **_each("original_inference_steps", 50),
    **_each("timestep_scaling", 10),
}
# Details of options that are off; the spacing is compared by itself.
SAMPLING_DETAILS = {
    "clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "lambda_min_clipped",
    "use_dynamic_shifting", "time_shift_type", "shift_terminal", "disable_corrector", "solver_p", "timestep_spacing",
}  # fmt: skip


def check_settings(
    config: Config,
    settings: Mapping[str, Any],
    linear_projection: bool,
    sources: Mapping[tuple[str, str], str] | None = None,
) -> None:
    """Compare a model with all that is said about it: `settings` by part and key, `sources` who said it, if not JSON.

    `linear_projection`: whether the projections around its U-Net's transformers are linear, not convolutions.

    Raises `LdmError` for what makes another model of the same tensors, and logs what is not followed.
    """
    expected = settings_of(config, linear_projection)
    expected["text_encoder"]["layer"] = config.text.output  # a word of the original configs alone
    expected["unet"] = dict.fromkeys(ADDED) | expected["unet"]
    unknown = []
    for part, said in settings.items():
        if part not in SWITCHES or part not in expected or not isinstance(said, Mapping):
            continue  # the second includes a second text encoder that is not used
        for key, value in said.items():
            has = f"{part}: {(sources or {}).get((part, key), 'its config')} has {key} = {shown(value)}"
            if key in SWITCHES[part]:
                good = SWITCHES[part][key]
                if not any(_same(value, one) for one in good):
                    raise LdmError(f"{has}; expected {good[0]!r}")
            elif _is_known(part, key):
                continue
            elif key in expected[part]:
                value = _depths(value, config) if key == "transformer_layers_per_block" else value
                if not _same(value, expected[part][key]):
                    raise LdmError(f"{has}; its tensors make {expected[part][key]}")
            elif value not in (None, False, [], {}):
                unknown.append(f"{part}'s {key} = {str(value)[:40]}")
    if unknown:
        log.warning(
            f"{some(unknown)}: not known here and not followed; if it changes the network, images are wrong"
        )
    _note_sampling(config, settings.get("scheduler", {}))


def _is_known(part: str, key: str) -> bool:
    sampling = part == "scheduler" and (key in SAMPLING or key in SAMPLING_DETAILS)
    return sampling or key.startswith("_") or key in FOR_OTHERS[part] | TAKEN[part] or key == "architectures"


def _depths(said: Any, config: Config) -> Any:
    """Depths of the transformers, where a level has any: elsewhere the JSON's number is never used."""
    levels = config.unet.levels
    said = said if isinstance(said, list) else [said] * len(levels)
    if len(said) != len(levels):
        return said
    return [n if level.depth or i == len(levels) - 1 else 1 for i, (n, level) in enumerate(zip(said, levels))]


def _same(value: Any, expected: Any) -> bool:
    """Whether two values say the same. A list of equal values, one a level, may also be written as one value."""
    if isinstance(value, list) != isinstance(expected, list):
        many, one = (value, expected) if isinstance(value, list) else (expected, value)
        return bool(many) and all(_same(item, one) for item in many)
    if isinstance(value, bool) != isinstance(expected, bool):
        return False  # in Python, True == 1
    return bool(value == expected)


def _note_sampling(config: Config, scheduler: Mapping[str, Any]) -> None:
    """Log in one line where the scheduler's JSON differs from the samplers here."""
    has = [key for key, good in SAMPLING.items() if key in scheduler and scheduler[key] not in good]
    name = str(scheduler.get("_class_name"))
    if name.startswith("LCM"):  # whose last step ends at a clean latent, whatever that says
        has = [key for key in has if key != "set_alpha_to_one"]
    # How the sampler that has this scheduler's name spaces its timesteps here.
    spacing = "leading"
    if config.noise.zero_snr:
        spacing = "trailing"
    elif re.match("Euler|Heun|LMS|KDPM|DPMSolver|UniPC|DEIS", name):
        spacing = "linspace"
    said = scheduler.get("timestep_spacing")
    if said not in (None, spacing) and not config.defaults.sampler.endswith(f"_{said}"):
        has.append("timestep_spacing")
    if has:
        others = ", ".join(f"{key} = {scheduler[key]!r}" for key in has)
        log.info(f"the scheduler's config has {others}; not followed, each sampler here has its own way")
