r"""What people give in place of a checkpoint, by the names of its tensors: so that they are told what they have."""

import re
from collections.abc import Iterable, Mapping

from ldm.checkpoints.strangers import LORA

INVERSION = "a textual inversion: a word's embedding, no model"

# What only the names of one kind of file have in them. The first that fits is taken.
FOREIGN = (
    (LORA, "a LoRA: a change to a model, no model"),
    (
        r"^control_model\.|controlnet_|input_hint_block|zero_convs",
        "a ControlNet: it steers a model, and is none",
    ),
    (r"^(image_proj|ip_adapter)(\.|$)|\.to_[kv]_ip\.", "an IP-Adapter: it steers a model, and is none"),
    (r"^adapter\.|^body\.\d+\.in_conv\.", "a T2I-Adapter: it steers a model, and is none"),
    (r"motion_modules?\.|temporal_transformer\.", "a motion module (AnimateDiff), no model"),
    (r"^(320|640|768|1024|1280)\.linear", "a hypernetwork: a change to a model, no model"),
    (r"double_blocks\.\d|single_transformer_blocks\.\d", "a Flux model"),
    (r"joint_blocks\.\d|\.add_q_proj\.", "a Stable Diffusion 3 model"),
    (
        r"(^|\.)lm_head\.|embed_tokens\.|^(transformer\.)?h\.\d+\.|gpt_neox|^blk\.\d|word_embeddings\.",
        "a language model",
    ),
    (
        r"^(shared\.weight$|encoder\.block\.\d+\.layer\.)",
        "a T5 text encoder, which Flux and Stable Diffusion 3 read",
    ),
    (r"^string_to_(param|token)$|^emb_params$|^clip_[lg]$|^text_encoders_\d$", INVERSION),
    (
        r"^((taesd_)?(encoder|decoder)\.(layers\.)?)?\d+\.(conv\.\d\.)?(weight|bias)$",
        "a TAESD: a sketch of a VAE",
    ),
    (r"RRDB_trunk\.|^body\.\d+\.rdb\d\.|^model\.1\.sub\.\d+\.", "an ESRGAN, which enlarges images"),
    (r"^concept_embeds", "a safety checker"),
    (r"^(vision_model|visual|visual_projection)\.", "a CLIP with an image encoder"),
    (r"^(backbone|stages|layer\d|fc|classifier)\.", "an image classifier"),
)
EMBEDDING_WIDTHS = (768, 1024, 1280)  # of the text encoders of Stable Diffusion
MOST_WORDS = 100  # in a file of embeddings


def foreign(names: Iterable[str]) -> str | None:
    """What the file is if it is no model of ours, in words."""
    names = list(names)
    for pattern, what in FOREIGN:
        if any(re.search(pattern, name) for name in names):
            return what
    return None


def is_inversion(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether these are learned words, {"<cat-toy>": [768]}: the names may be any words, so only the shapes tell."""
    return 0 < len(shapes) <= MOST_WORDS and all(
        len(shape) in (1, 2) and shape[-1] in EMBEDDING_WIDTHS and "." not in name
        for name, shape in shapes.items()
    )
