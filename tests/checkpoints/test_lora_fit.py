r"""A LoRA for another base is refused by the base's name; one that fits is not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ldm.checkpoints.key_map import text_rows, unet_rows
from ldm.checkpoints.loaded import LoadedModel
from ldm.checkpoints.lora_about import about
from ldm.checkpoints.lora_file import LoraFile
from ldm.checkpoints.lora_fit import BASES, best_bases, parts_of, read_lora
from ldm.config import SD1, SD2_BASE
from ldm.errors import LdmError
from tests.small import CONFIG, TOKENIZER

PREFIXES = {"text": "lora_te_", "text_2": "lora_te2_"}


def real(base: str, only: str = "", original: bool = False, **about) -> LoraFile:
    r"""A LoRA of rank 1 on every attention of a real base, sizes and all; its numbers take no memory."""
    file = {}
    for part, config in parts_of(BASES[base]).items():
        rows, prefix = (unet_rows, "lora_unet_") if part == "unet" else (text_rows, PREFIXES[part])
        for row in rows(config):
            if (
                row.ours.endswith(".weight")
                and "attn." in row.ours
                and only in row.ours
                and "norm" not in row.ours
            ):
                if part == "unet" and "_attn." not in row.ours:
                    continue
                name = prefix + (row.compvis if original and part == "unet" else row.diffusers)[:-7].replace(
                    ".", "_"
                )
                width = 320 if part == "unet" else config.width
                into = (
                    config.context_width
                    if "cross_attn.k" in row.ours or "cross_attn.v" in row.ours
                    else width
                )
                file[f"{name}.lora_up.weight"] = torch.zeros(1, 1).expand(width, 1)
                file[f"{name}.lora_down.weight"] = torch.zeros(1, 1).expand(1, into)
    return LoraFile(Path("x.safetensors"), file, **about)


@pytest.mark.parametrize(
    ("base", "original"),
    [*((base, False) for base in BASES if base != "tiny"), ("sd1", True), ("sdxl", True)],
)
def test_every_base_is_known_by_its_files(base, original):
    assert best_bases(real(base, original=original))[0] == [base]


def test_self_attention_alone_fits_versions_1_and_2_and_metadata_tells():
    file = real("sd1", only="self_attn")
    assert best_bases(file)[0] == ["sd1", "sd2"]
    facts = dict(about(file))
    assert facts["made for"] == "Stable Diffusion 1 or Stable Diffusion 2"
    told = real("sd1", only="self_attn", metadata={"ss_base_model_version": "sd_v2_v"})
    assert dict(about(told))["made for"] == "Stable Diffusion 2"


@pytest.fixture(scope="module")
def big() -> dict[str, LoadedModel]:
    with torch.device("meta"):
        return {
            "sd1": LoadedModel(SD1, TOKENIZER),
            "sd2": LoadedModel(SD2_BASE, TOKENIZER),
            "small": LoadedModel(CONFIG, TOKENIZER),
        }


@pytest.mark.parametrize(
    ("made_for", "model", "message"),
    [
        ("sdxl", "sd1", "is a LoRA for Stable Diffusion XL; expected one for Stable Diffusion 1"),
        ("sdxl-refiner", "sd1", "is a LoRA for Stable Diffusion XL, refiner; expected"),
        ("sd1", "sd2", "is a LoRA for Stable Diffusion 1; expected one for Stable Diffusion 2"),
        ("sd1", "small", "is a LoRA for Stable Diffusion 1; expected one for this model"),
    ],
)
def test_a_lora_for_another_base_is_refused_by_name(big, monkeypatch, made_for, model, message):
    monkeypatch.setattr("ldm.checkpoints.lora_fit.open_lora", lambda path: real(made_for))
    with pytest.raises(LdmError, match=message):
        read_lora(Path("x.safetensors"), big[model])


def test_metadata_that_names_another_base_refuses_what_would_fit_both(big, monkeypatch):
    told = real("sd1", only="self_attn", metadata={"modelspec.architecture": "stable-diffusion-v2-512/lora"})
    monkeypatch.setattr("ldm.checkpoints.lora_fit.open_lora", lambda path: told)
    with pytest.raises(
        LdmError, match="is a LoRA for Stable Diffusion 2; expected one for Stable Diffusion 1"
    ):
        read_lora(Path("x.safetensors"), big["sd1"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", "is a LoRA for Flux"),
        ("transformer.joint_blocks.0.x.lora_A.weight", "is a LoRA for Stable Diffusion 3"),
        ("what.is.this", "none of its 1 tensors belongs to a module of it"),
    ],
)
def test_a_file_for_no_base_that_is_known_here_is_refused(big, tmp_path, name, message):
    save_file({name: torch.ones(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(LdmError, match=message):
        read_lora(tmp_path / "x.safetensors", big["sd1"])


def test_what_is_not_used_is_listed(big, tmp_path, caplog):
    name = "lora_unet_down_1_attn_0_layers_0_self_attn_q"  # our own name, in kohya's spelling
    file = {f"{name}.lora_up.weight": torch.ones(16, 2), f"{name}.lora_down.weight": torch.ones(2, 16)}
    save_file(file | {"lora_te2_x.lora_up.weight": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    lora = read_lora(tmp_path / "x.safetensors", big["small"])
    assert lora.unused == ("lora_te2_x.lora_up.weight",)
    assert (
        "not used: 1 tensor that no module of this model has a place for: lora_te2_x.lora_up.weight"
        in caplog.text
    )


def test_the_facts_about_a_file():
    metadata = {
        "ss_tag_frequency": '{"10_ink": {"ink drawing": 30, " cat ": 4}, "more": {"cat": 1, "x": "no"}, "odd": 1}',
        "modelspec.trigger_phrase": "in ink",
        "ss_sd_model_name": "v1-5-pruned.ckpt",
    }
    file = real("sd1", metadata=metadata)
    first = next(iter(file.tensors)).removesuffix(".lora_up.weight")
    tensors = {**file.tensors, f"{first}.alpha": torch.tensor(0.5), "odd": torch.ones(1)}
    facts = dict(about(LoraFile(Path("x"), tensors, metadata)))
    assert facts == {
        "made for": "Stable Diffusion 1",
        "kind": "LoRA",
        "modules": "128 of the U-Net, 48 of the text encoder",
        "rank": "1",
        "alpha": "0.5 to 1",
        "not known": "1: odd",
        "trigger": "in ink",
        "tags": "ink drawing (30), cat (5)",
        "trained on": "v1-5-pruned.ckpt",
    }


def test_a_file_for_a_model_of_ones_own_is_for_no_known_base_and_its_factors_are_told():
    name = "lora_unet_mid_attn_layers_0_cross_attn_k"
    file = {f"{name}.lora_up.weight": torch.ones(64, 2), f"{name}.lora_down.weight": torch.ones(2, 48)}
    facts = dict(about(LoraFile(Path("x"), file)))
    assert facts["made for"] == "a model that is not known here" and facts["rank"] == "2"
    assert "rank" not in dict(about(LoraFile(Path("x"), {"a.b": torch.ones(1)})))


def test_a_damaged_or_refused_file_has_facts_too(tmp_path):
    file = real("sd1")
    half = {name: t for name, t in file.tensors.items() if "lora_up" not in name}
    assert "half a LoRA" in dict(about(LoraFile(Path("x"), half)))["damaged"]
    assert "GLoRA" in dict(about(LoraFile(Path("x"), {"lora_unet_x.a1.weight": torch.ones(1)})))["kind"]
    odd = {"ss_tag_frequency": "[" * 100_000}
    assert "tags" not in dict(about(LoraFile(Path("x"), file.tensors, odd)))
