r"""Tensors in a checkpoint that the model does not ask for.

Published files carry more than the three networks. What is left of training is harmless and is dropped by name:

    betas, alphas_cumprod, ...       the noise schedule, which a config describes in three numbers
    global_step, model_ema.decay     counters of a training run
    cond_stage_model.logit_scale     CLIP's temperature, used only to compare texts with images

Other tensors would change the numbers that a network computes: quantised weights with their scales, a LoRA that was
never merged, an input that the model does not have. Ignoring those would give wrong images without an error, so such a
file is refused. Anything else is ignored with a warning.
"""

import re

# Part of every list below: the names of one adapter or quantisation scheme among those of a model.
LORA = r"(^|[._])(lora|loha|hada|lokr|glora|oft|boft|dora|ia3)([._]|$)|\.on_input$"

_HARMLESS = re.compile(
    "|".join(
        (
            r"(log_one_minus_|sqrt_|sqrt_one_minus_|sqrt_recip_|sqrt_recipm1_)?alphas_cumprod(_prev)?|betas",
            r"posterior_(variance|log_variance_clipped|mean_coef[12])|lvlb_weights|logvar",
            r"(model|denoiser)\.(log_)?sigmas",
            r"global_step|epoch|model_ema\.(decay|num_updates)|.*\.num_batches_tracked",
            r"(loss|embedding_manager)\..*|edm_.*|first_stage_model\.(loss|model_ema)\..*",
            r"cond_stage_model\.(logit_scale|text_projection(\.weight)?)",
            r"cond_stage_model\.(transformer\.vis(ion_model|ual_projection)|model\.visual)\b.*",
        )
    )
)

# What changes the numbers wherever it stands, and what the file is then.
_ALTERING = (
    (
        r"(^|[._])(scaled_fp8|comfy_quant|weight_scale|scale_weight|input_scale|scale_input)$",
        "weights in fp8 with scales of their own",
    ),
    (
        r"\.(qweight|qzeros|scales|g_idx|SCB|absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*)$",
        "quantised weights",
    ),
    (LORA, "a LoRA that is not merged into the weights"),
    (r"(^|\.)cond_proj\.", "a U-Net that takes the guidance as an input (LCM)"),
    (r"(^|\.)to_[kv]_ip\.", "an IP-Adapter that is part of the U-Net"),
)


def is_harmless(name: str) -> bool:
    """Whether a tensor of this name is left over from training, so that a model works the same without it."""
    return _HARMLESS.fullmatch(name) is not None


def meaning(name: str) -> str | None:
    """What a tensor of this name makes of the file, if leaving it out would change the numbers; else None."""
    return next((what for pattern, what in _ALTERING if re.search(pattern, name)), None)


def top(name: str) -> str:
    """The top-level module of a network that a tensor belongs to: `down_blocks` of "down_blocks.0.resnets.0...".

    A tensor in one of the modules that a network is built of is a part of its computation, whatever it is.
    """
    return name.removeprefix("text_model.").partition(".")[0]
