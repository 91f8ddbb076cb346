r"""Whether a model is the one that its JSON describes: every key of it is accounted for.

`ldm.checkpoints.settings` takes from a diffusers folder's JSON what shapes cannot tell. Every other key is looked at
here:

- keys that `settings_of` writes must say what it would write for this model: 320 channels for tensors of 320 channels;
- switches of the architecture must stand where Stable Diffusion has them (`SWITCHES`);
- how the scheduler likes to sample is up to the sampler here, and where that differs it is said in one line;
- a key that nobody here knows is named in a warning.

So a value that would make another network of the same tensors is an error, and none is passed over in silence.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

from ldm.checkpoints.names import some
from ldm.checkpoints.notes import note
from ldm.checkpoints.settings import settings_of
from ldm.config import Config
from ldm.errors import LdmError, shown

Table = Mapping[str, Any]

# Switches of the libraries' networks, each with the values that leave Stable Diffusion's network as it is. (Both
# libraries write every switch, most of them at rest.)
SWITCHES: dict[str, dict[str, tuple[Any, ...]]] = {
    "unet": {
        "act_fn": ("silu", "swish"),
        "flip_sin_to_cos": (True,),
        "freq_shift": (0,),
        "norm_eps": (1e-5,),
        "downsample_padding": (1,),
        "mid_block_scale_factor": (1,),
        "mid_block_type": ("UNetMidBlock2DCrossAttn",),
        "center_input_sample": (False,),
        "dual_cross_attention": (False,),
        "only_cross_attention": (False,),
        "mid_block_only_cross_attention": (None, False),
        "resnet_time_scale_shift": ("default",),
        "resnet_skip_time_act": (False,),
        "resnet_out_scale_factor": (1,),
        "time_embedding_type": ("positional",),
        "time_embedding_dim": (None,),
        "time_embedding_act_fn": (None,),
        "timestep_post_act": (None,),
        "time_cond_proj_dim": (None,),
        "conv_in_kernel": (3,),
        "conv_out_kernel": (3,),
        "attention_type": ("default",),
        "cross_attention_norm": (None,),
        "addition_embed_type": (None,),
        "class_embed_type": (None,),
        "class_embeddings_concat": (False,),
        "num_class_embeds": (None,),
        "projection_class_embeddings_input_dim": (None,),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "reverse_transformer_layers_per_block": (None,),
    },
    "vae": {
        "act_fn": ("silu", "swish"),
        "in_channels": (3,),
        "out_channels": (3,),
        "shift_factor": (None, 0),
        "latents_mean": (None,),
        "latents_std": (None,),
        "use_quant_conv": (True,),
        "use_post_quant_conv": (True,),
        "mid_block_add_attention": (True,),
    },
    "text_encoder": {"layer_norm_eps": (1e-5,), "model_type": ("clip_text_model", "clip")},
    "scheduler": {},
}

# What says nothing about the network or its numbers: training, precision, origin; and what only the other libraries'
# code reads, such as where transformers looks for a summary of the text, which Stable Diffusion does not use.
# What `settings_of` writes of these is written for the others alone.
FOR_OTHERS: dict[str, set[str]] = {
    "": {"requires_safety_checker", "safety_checker", "feature_extractor", "image_encoder"},
    "unet": {"dropout", "upcast_attention", "addition_time_embed_dim", "addition_embed_type_num_heads"},
    "vae": {"sample_size", "force_upcast"},
    "text_encoder": {
        "projection_dim", "bos_token_id", "eos_token_id", "pad_token_id", "attention_dropout", "dropout", "dtype",
        "torch_dtype", "initializer_factor", "initializer_range", "transformers_version",
    },
    "scheduler": set(),
}  # fmt: skip

# What `ldm.checkpoints.settings` takes over, from whichever scheduler. (`_class_name` and the like:
# `ldm.checkpoints.detect`.)
TAKEN = {
    "scheduler": {
        "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
        "rescale_betas_zero_snr",
    },
    "unet": {"attention_head_dim", "num_attention_heads", "norm_num_groups", "sample_size"},
    "vae": {"norm_num_groups", "scaling_factor"},
    "text_encoder": {"num_attention_heads", "hidden_act", "num_hidden_layers"},
}  # fmt: skip

# How the samplers here go about it, whatever the scheduler's JSON says. (diffusers' own pipeline for Stable Diffusion
# sets the first two likewise.)
SAMPLING: dict[str, tuple[Any, ...]] = {
    "clip_sample": (False,),
    "steps_offset": (1,),
    "set_alpha_to_one": (False,),
    "skip_prk_steps": (True,),
    "thresholding": (False,),
    "use_karras_sigmas": (False, None),
    "use_exponential_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False, None),
    "use_flow_sigmas": (False, None),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "final_sigmas_type": ("zero",),
    "sigma_min": (None,),
    "sigma_max": (None,),
    "variance_type": ("fixed_small", None),
    "algorithm_type": ("dpmsolver++",),
    "solver_type": ("midpoint", "bh2"),
    "solver_order": (2,),
    "lower_order_final": (True,),
    "euler_at_final": (False,),
    "predict_x0": (True,),
}
# Details of options that are off.
SAMPLING_DETAILS = {
    "clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "lambda_min_clipped",
    "use_dynamic_shifting", "time_shift_type", "shift_terminal", "disable_corrector", "solver_p",
}  # fmt: skip


def demand_agreement(
    config: Config,
    settings: Mapping[str, Any],
    linear_projection: bool,
    sources: Mapping[tuple[str, str], str] | None = None,
) -> None:
    """Compare a model with all that is said about it: `settings` by part and key, `sources` who said it, if not JSON.

    `linear_projection`: whether the maps around its U-Net's transformers are linear, not convolutions.

    Raises `LdmError` for what makes another model of the same tensors, and logs what is not followed.
    """
    expected = settings_of(config, linear_projection)
    expected["text_encoder"]["layer"] = config.text.output  # a word of the original configs alone
    strange = []
    for part, said in settings.items():
        if part not in SWITCHES or not isinstance(said, Mapping):
            continue
        for key, value in said.items():
            has = f"{part}: {(sources or {}).get((part, key), 'its config')} has {key} = {shown(value)}"
            if key in SWITCHES[part]:
                good = SWITCHES[part][key]
                if not any(_same(value, one) for one in good):
                    raise LdmError(f"{has}; expected {good[0]!r}")
            elif key == "transformer_layers_per_block":
                _demand_same(has, _depths(value, config), expected[part][key])
            elif key in expected[part] and not _is_known(part, key):
                _demand_same(has, value, expected[part][key])
            elif not _is_known(part, key) and value not in (None, False, [], {}):
                strange.append(f"{part}'s {key} = {str(value)[:40]}")
    if strange:
        note(
            f"{some(strange)}: not known here and not followed; if it changes the network, the images are not right"
        )
    _say_sampling(config, settings.get("scheduler", {}))


def _is_known(part: str, key: str) -> bool:
    sampling = part == "scheduler" and (
        key in SAMPLING or key in SAMPLING_DETAILS or key == "timestep_spacing"
    )
    return sampling or key.startswith("_") or key in FOR_OTHERS[part] | TAKEN[part] or key == "architectures"


def _depths(said: Any, config: Config) -> Any:
    """Depths of the transformers, where a level has them: of the others the JSON's number is never used."""
    levels = config.unet.levels
    said = said if isinstance(said, list) else [said] * len(levels)
    if len(said) != len(levels):
        return said
    return [n if level.depth or i == len(levels) - 1 else 1 for i, (n, level) in enumerate(zip(said, levels))]


def _demand_same(has: str, value: Any, expected: Any) -> None:
    """Raise an `LdmError` unless it says what the tensors say."""
    if not _same(value, expected):
        raise LdmError(f"{has}; its tensors make {expected}")


def _same(value: Any, expected: Any) -> bool:
    """Whether two values say the same. A list of equal values, one a level, may also be written as one value."""
    if isinstance(value, list) != isinstance(expected, list):
        many, one = (value, expected) if isinstance(value, list) else (expected, value)
        return bool(many) and all(_same(item, one) for item in many)
    if isinstance(value, bool) != isinstance(expected, bool):
        return False  # in Python, True == 1
    return bool(value == expected)


def _say_sampling(config: Config, scheduler: Table) -> None:
    """Log in one line what the scheduler's JSON would do otherwise than the samplers here."""
    others = [
        f"{key} = {scheduler[key]!r}"
        for key, good in SAMPLING.items()
        if key in scheduler and scheduler[key] not in good
    ]
    spacing = scheduler.get("timestep_spacing")
    if spacing is not None and spacing != _spacing(config, str(scheduler.get("_class_name"))):
        others.append(f"timestep_spacing = {spacing!r}")
    if others:
        note(
            f"the scheduler's config has {', '.join(others)}; not followed, each sampler here has its own way",
            logging.INFO,
        )


def _spacing(config: Config, scheduler: str) -> str:
    """How the sampler that goes by this scheduler's name spaces its timesteps here."""
    if config.noise.zero_snr:
        return "trailing"
    return "linspace" if re.match("Euler|Heun|LMS|KDPM|DPMSolver|UniPC|DEIS", scheduler) else "leading"
