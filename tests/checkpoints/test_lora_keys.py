r"""Every spelling of every module, none of them ambiguous, and nothing taken apart."""

import gzip
import json
from pathlib import Path

import pytest

from ldm.checkpoints import lora_keys
from ldm.checkpoints.lora_fit import BASES, parts_of
from ldm.checkpoints.lora_keys import look_up, refused_kind, spellings

with gzip.open(Path(__file__).parents[1] / "golden" / "layouts.json.gz") as stored:
    NAMES = json.load(stored)["names"]
# Layers of transformers, which kohya's programs train by default; those of residual blocks, down- and upsampling.
COUNTS = {"sd1": (192, 86), "sd2": (192, 86), "sdxl": (722, 66), "sdxl-refiner": (462, 86)}


@pytest.mark.parametrize("base", BASES)
def test_no_spelling_means_two_modules(base, monkeypatch):
    meant: dict[str, set[str]] = {}
    modules = lora_keys.modules_of

    def watched(part, config):
        for ours, names in modules(part, config):
            for name in names:
                for prefix in lora_keys.UNDERSCORED[part]:
                    meant.setdefault(prefix + name.replace(".", "_"), set()).add(f"{part}.{ours}")
                for prefix in lora_keys.DOTTED[part]:
                    meant.setdefault(prefix + name, set()).add(f"{part}.{ours}")
            yield ours, names

    monkeypatch.setattr(lora_keys, "modules_of", watched)
    table = spellings(parts_of(BASES[base]))
    assert len(meant) > 4000 and all(len(modules) == 1 for modules in meant.values())
    assert all(table[name] in modules for name, modules in meant.items())


@pytest.mark.parametrize("base", COUNTS)
def test_there_are_as_many_modules_as_in_the_files_of_kohyas_programs(base):
    modules = {
        module for name, module in spellings(parts_of(BASES[base])).items() if name.startswith("lora_unet_")
    }
    layers = [module for module in modules if "norm" not in module.rpartition(".")[2]]
    attention = sum(".attn" in module for module in layers)
    blocks = sum(".res" in module or "sample." in module for module in layers)
    assert (attention, blocks) == COUNTS[base]


@pytest.mark.parametrize("version", ["sd1", "sd2"])
def test_every_module_that_diffusers_names_is_found_in_kohyas_spelling_and_in_pefts(version):
    r"""diffusers' own names, as it gave them to the tensors of a real file (`tests/golden/make_layouts.py`)."""
    table = spellings(parts_of(BASES[version]))
    for name in NAMES[version]["unet"]:
        if name.endswith(".weight"):
            module = name.removesuffix(".weight")
            found = {table[f"lora_unet_{module.replace('.', '_')}"], table[f"unet.{module}"], table[module]}
            assert len(found) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", ("unet.mid.attn.proj_in", "down")),
        ("lora_unet_middle_block_1_proj_in.lora_up.weight", ("unet.mid.attn.proj_in", "up")),
        ("unet.mid_block.attentions.0.proj_in.lora_A.weight", ("unet.mid.attn.proj_in", "down")),
        (
            "base_model.model.mid_block.attentions.0.proj_in.lora_B.default.weight",
            ("unet.mid.attn.proj_in", "up"),
        ),
        (
            "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.up.weight",
            ("unet.mid.attn.layers.0.cross_attn.out", "up"),
        ),
        ("lora_te_text_model_encoder_layers_3_mlp_fc1.alpha", ("text.layers.3.mlp.fc_1", "alpha")),
        (
            "text_encoder.text_model.encoder.layers.3.self_attn.to_q_lora.down.weight",
            ("text.layers.3.attn.q", "down"),
        ),
        (
            "text_encoder.text_model.encoder.layers.3.self_attn.out_proj.lora_linear_layer.up.weight",
            ("text.layers.3.attn.out", "up"),
        ),
        ("unet.mid.attn.proj_in.dora_scale", ("unet.mid.attn.proj_in", "dora_scale")),
        ("lora_unet_mid_block_attentions_0_proj.in.lora_down.weight", None),
        ("lora_unet_mid_block_attentions_0_proj_in.weight", None),
        ("lora_unet_x.lora_down.weight", None),
        ("", None),
        ("." * 50, None),
    ],
)
def test_names_known_by_heart(name, expected):
    found = look_up(name, spellings(parts_of(BASES["sd1"])))
    assert (None if found is None else found[:2]) == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.oft_blocks", "OFT"), ("a.oft_diag", "OFT"), ("a.on_input", "IA3"), ("a.b1.weight", "GLoRA"),
     ("a.lora_up.weight", None)],
)  # fmt: skip
def test_kinds_that_are_not_merged_are_named(name, kind):
    assert kind in refused_kind(name) if kind else refused_kind(name) is None
