r"""How LoRA files call the modules of a model: every spelling of every module, in one dictionary.

Programs that train LoRAs agree on the factors, and on nothing else. Here are the names of one module:

    kohya             lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight
    kohya, SDXL       lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_down.weight
    PEFT, diffusers   unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight
    diffusers, 2023   unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight
    PEFT alone        base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight

With every dot an underscore, a name cannot be taken apart again: is `to_out_0` one word, or two? So nothing is parsed.
The table of `ldm.checkpoints.key_map` names every module of a model; each name is written in all spellings, and the
names of a file are looked up among them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ldm.checkpoints.key_map import text_rows, unet_rows
from ldm.config import TextConfig

# What precedes a module's name with dots, and with underscores; by the part of the model. (`text_2`: SDXL's second.)
DOTTED = {
    "unet": ("unet.", "", "base_model.model.", "base_model.model.unet.", "diffusion_model.", "model.diffusion_model."),
    "text": ("text_encoder.", "", "base_model.model.", "base_model.model.text_encoder."),
    "text_2": ("text_encoder_2.",),
}  # fmt: skip
UNDERSCORED = {"unet": ("lora_unet_",), "text": ("lora_te_", "lora_te1_"), "text_2": ("lora_te2_",)}

# What follows it, and which factor of which kind it is. PEFT puts the adapter's own name, "default", in between.
FACTORS = {
    **dict.fromkeys(
        ("lora_down.weight", "lora_A.weight", "lora_A.default.weight", "lora.down.weight", "down.weight",
         "lora_linear_layer.down.weight"), "down"),
    **dict.fromkeys(
        ("lora_up.weight", "lora_B.weight", "lora_B.default.weight", "lora.up.weight", "up.weight",
         "lora_linear_layer.up.weight"), "up"),
    **dict.fromkeys(
        ("lora_magnitude_vector", "lora_magnitude_vector.weight", "lora_magnitude_vector.default",
         "lora_magnitude_vector.default.weight"), "magnitude"),
    "lora_mid.weight": "mid", "alpha": "alpha", "dora_scale": "dora_scale",
    **{name: name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")},
    **{name: name for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")},
    **{name: name for name in ("diff", "diff_b", "w_norm", "b_norm")},
}  # fmt: skip
# Kinds that are recognised and cannot be merged here.
REFUSED = {
    **dict.fromkeys(("oft_blocks", "oft_diag", "oft_R.weight", "oft_R.default.weight"), "an OFT (orthogonal change)"),
    **dict.fromkeys(("a1.weight", "a2.weight", "b1.weight", "b2.weight"), "a GLoRA"),
    **dict.fromkeys(("on_input", "ia3_l", "ia3_l.default"), "an IA3, which scales activations"),
    **dict.fromkeys(("set_weight", "reshape_weight"), "a file that replaces weights instead of changing them"),
}  # fmt: skip


def spellings(configs: Mapping[str, Any]) -> dict[str, str]:
    r"""Every name that a LoRA may have for a module, and our name, with its part: "unet.mid.attn.proj_in".

    `configs` are those of the parts to look in: {"unet": a `UNetConfig`, "text": a `TextConfig`}. The names of a text
    encoder's last layer are among them even if the model does without that layer.
    """
    table: dict[str, str] = {}
    for part, config in configs.items():
        for ours, names in modules_of(part, config):
            own = f"{part}.{ours}"
            table[own] = own
            for name in names:
                table |= dict.fromkeys((prefix + name for prefix in DOTTED[part]), own)
                flat = name.replace(".", "_")
                table |= dict.fromkeys((prefix + flat for prefix in UNDERSCORED[part]), own)
    return table


def modules_of(part: str, config: Any) -> Iterator[tuple[str, list[str]]]:
    """Each module with a weight: our name, and those in the files of others, with dots."""
    if part != "unet":
        assert isinstance(config, TextConfig)
        for row in text_rows(replace(config, output="last")):
            if row.ours.endswith(".weight"):
                theirs = _module(row.diffusers)
                names = [theirs, theirs.removeprefix("text_model.")]
                yield _module(row.ours), [*names, *map(_old_name, names)]
        return
    for row in unet_rows(config):
        if row.ours.endswith(".weight"):
            theirs = _module(row.diffusers)
            yield _module(row.ours), [theirs, _module(row.compvis), _module(row.ours), _old_name(theirs)]


def _module(tensor: str) -> str:
    return tensor.removesuffix(".weight")


def _old_name(module: str) -> str:
    """What diffusers called the projections of an attention in 2023: `attn1.processor.to_q_lora`; other names stay."""
    head, _, last = module.removesuffix(".0").rpartition(".")
    if last in ("q_proj", "k_proj", "v_proj", "out_proj"):  # of CLIP
        return f"{head}.to_{last.removesuffix('_proj')}_lora"
    if last in ("to_q", "to_k", "to_v", "to_out"):  # of the U-Net
        return f"{head}.processor.{last}_lora"
    return module


def look_up(name: str, table: Mapping[str, str]) -> tuple[str, str, str] | None:
    r"""The module and the factor that a tensor's name means, and the module as the file calls it; None for others."""
    dot = name.find(".")
    while dot >= 0:
        head, tail = name[:dot], name[dot + 1 :]
        if tail in FACTORS and head in table:
            return table[head], FACTORS[tail], head
        dot = name.find(".", dot + 1)
    return None


def refused_kind(name: str) -> str | None:
    r"""What a file with a tensor of this name is, if that is a kind which cannot be merged."""
    return next((what for tail, what in REFUSED.items() if name.endswith(f".{tail}")), None)
