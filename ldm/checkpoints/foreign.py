r"""What tensors are by their names: left over from training, changes to a network, or another kind of file.

Published files carry more than the three networks. What is left of training is harmless and is dropped by name:

    betas, alphas_cumprod, ...       the noise schedule, which a config describes in three numbers
    global_step, model_ema.decay     counters of a training run
    cond_stage_model.logit_scale     CLIP's temperature, used only to compare texts with images

Other tensors would change the numbers that a network computes: quantised weights with their scales, a LoRA that was
never merged, an input that the model does not have. Ignoring those would give wrong images without an error, so such a
file is refused. Any other unknown tensor is ignored with a warning.

Finally, people give a LoRA, a ControlNet or a language model in place of a checkpoint; they are told what they have.
"""

import re
from collections.abc import Iterable, Mapping

_HARMLESS = re.compile(
    "|".join(
        (
            r"(log_one_minus_|sqrt_|sqrt_one_minus_|sqrt_recip_|sqrt_recipm1_)?alphas_cumprod(_prev)?|betas|scale_factor",
            r"posterior_(variance|log_variance_clipped|mean_coef[12])|lvlb_weights|logvar",
            r"(model|denoiser)\.(log_)?sigmas",
            r"global_step|epoch|model_ema\.(decay|num_updates)|.*\.num_batches_tracked",
            r"(loss|embedding_manager)\..*|first_stage_model\.(loss|model_ema)\..*",
            r"(cond_stage_model|conditioner\.embedders\.\d)\.(logit_scale|text_projection(\.weight)?)",
            r"cond_stage_model\.(transformer\.vis(ion_model|ual_projection)|model\.visual)\b.*",
        )
    )
)
# The names of one adapter or quantisation scheme among those of a model.
_LORA = r"(^|[._])(lora|loha|hada|lokr|glora|oft|boft|dora|ia3)([._]|$)|\.on_input$"

# What changes the numbers of a network wherever it stands, and what the file is then.
_ALTERING = {
    r"(^|[._])(scaled_fp8|comfy_quant|weight_scale|scale_weight|input_scale|scale_input)$":
        "weights in fp8 with scales of their own",
    r"\.(qweight|qzeros|scales|g_idx|SCB|absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*)$":
        "quantised weights",
    _LORA: "a LoRA that is not merged into the weights",
    r"^edm_(mean|std|vpred\.)": "a noise schedule of its own kind (EDM)",
    r"(^|\.)cond_proj\.": "a U-Net that takes the guidance scale as an input (LCM)",
    r"(^|\.)to_[kv]_ip\.": "an IP-Adapter that is part of the U-Net",
}  # fmt: skip

INVERSION = "a textual inversion: a word's embedding, not a model (--embedding takes it)"
TINY = "a TAESD: a tiny VAE that approximates another (--vae takes it), not a model"
LORA = "a LoRA: a change to a model, not a model (--lora takes it)"
CONTROL = "a ControlNet: it steers a model, and is none (--control takes it)"
# Names that only one kind of file has. The first that matches is taken.
_FOREIGN = {
    _LORA: LORA,
    r"^control_model\.|controlnet_|input_hint_block|zero_convs": CONTROL,
    r"^(image_proj|ip_adapter)(\.|$)|\.to_[kv]_ip\.": "an IP-Adapter: it steers a model, and is none",
    r"^adapter\.|^body\.\d+\.in_conv\.": "a T2I-Adapter: it steers a model, and is none",
    r"motion_modules?\.|temporal_transformer\.": "a motion module (AnimateDiff), not a model",
    r"^(320|640|768|1024|1280)\.linear": "a hypernetwork: a change to a model, not a model",
    r"double_blocks\.\d|single_transformer_blocks\.\d": "a Flux model",
    r"joint_blocks\.\d|\.add_q_proj\.": "a Stable Diffusion 3 model",
    r"(^|\.)lm_head\.|embed_tokens\.|^(transformer\.)?h\.\d+\.|gpt_neox|^blk\.\d|word_embeddings\.": "a language model",
    r"^(shared\.weight$|encoder\.block\.\d+\.layer\.)": "a T5 text encoder, which Flux and Stable Diffusion 3 read",
    r"^string_to_(param|token)$|^emb_params$|^clip_[lg]$|^text_encoders_\d$": INVERSION,
    r"^((taesd_)?(encoder|decoder)\.(layers\.)?)?\d+\.(conv\.\d\.)?(weight|bias)$": TINY,
    r"RRDB_trunk\.|^body\.\d+\.rdb\d\.|^model\.1\.sub\.\d+\.": "an ESRGAN, which enlarges images",
    r"^concept_embeds": "a safety checker",
    r"^(vision_model|visual|visual_projection)\.": "a CLIP with an image encoder",
    r"^(backbone|stages|layer\d|fc|classifier)\.": "an image classifier",
}  # fmt: skip
EMBEDDING_WIDTHS = (768, 1024, 1280)  # of the text encoders of Stable Diffusion
MOST_WORDS = 100  # in a file of embeddings


def is_harmless(name: str) -> bool:
    """Whether a tensor of this name is left over from training, so that a model works the same without it."""
    return _HARMLESS.fullmatch(name) is not None


def alteration(name: str) -> str | None:
    """What the file is if leaving out a tensor of this name would change the network's numbers; else None."""
    return next((what for pattern, what in _ALTERING.items() if re.search(pattern, name)), None)


def foreign(names: Iterable[str]) -> str | None:
    """What a file with tensors of these names is if it is not one of our models, in words."""
    names = list(names)
    return next((what for words, what in _FOREIGN.items() if any(re.search(words, n) for n in names)), None)


def is_inversion(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether these are learned words, {"<cat-toy>": [768]}: the names may be any words, so only the shapes tell."""
    return 0 < len(shapes) <= MOST_WORDS and all(
        len(shape) in (1, 2) and shape[-1] in EMBEDDING_WIDTHS and "." not in name
        for name, shape in shapes.items()
    )
