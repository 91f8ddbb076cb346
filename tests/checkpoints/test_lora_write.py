r"""A LoRA written in kohya's spelling: from every other, and read again to the same bits."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import ldm
from ldm.checkpoints.lora_about import about
from ldm.checkpoints.lora_file import open_lora
from ldm.checkpoints.lora_fit import names_in
from ldm.checkpoints.lora_write import all_changes, export_lora
from ldm.checkpoints.safetensors_file import read_metadata
from ldm.errors import LdmError
from tests.cli.terminal import run

BLOCK = "mid_block.attentions.0"
INNER = f"{BLOCK}.transformer_blocks.0"
TEXT = "text_model.encoder.layers.3"


def every_kind(draw) -> dict[str, torch.Tensor]:
    r"""Factors of each kind, for modules under diffusers' names. Their sizes are nobody's."""
    return {
        f"{BLOCK}.proj_in.lora_up.weight": draw(6, 2).half(),
        f"{BLOCK}.proj_in.lora_down.weight": draw(2, 5).half(),
        f"{BLOCK}.proj_in.alpha": torch.tensor(0.3).half(),
        f"{BLOCK}.proj_in.dora_scale": draw(6, 1).float(),
        f"{BLOCK}.proj_in.diff_b": draw(6).float(),
        "mid_block.resnets.0.conv1.lora_up.weight": draw(6, 2, 1, 1),
        "mid_block.resnets.0.conv1.lora_down.weight": draw(2, 5, 1, 1),
        "mid_block.resnets.0.conv1.lora_mid.weight": draw(2, 2, 3, 3),
        "mid_block.resnets.0.conv1.alpha": torch.tensor([4]),
        "mid_block.resnets.0.norm1.w_norm": draw(6),
        "mid_block.resnets.0.norm1.b_norm": draw(6),
        f"{INNER}.attn1.to_q.lora_up.weight": draw(6, 2),
        f"{INNER}.attn1.to_q.lora_down.weight": draw(2, 5),
        f"{INNER}.attn1.to_q.dora_scale": draw(1, 5),
        **{f"{INNER}.attn1.to_k.hada_w{k}_a": draw(6, 2) for k in (1, 2)},
        **{f"{INNER}.attn1.to_k.hada_w{k}_b": draw(2, 5) for k in (1, 2)},
        f"{INNER}.attn1.to_k.alpha": torch.tensor(1.0),
        f"{INNER}.attn1.to_v.lokr_w1": draw(2, 3).bfloat16(),
        f"{INNER}.attn1.to_v.lokr_w2_a": draw(4, 2).bfloat16(),
        f"{INNER}.attn1.to_v.lokr_w2_b": draw(2, 5).bfloat16(),
        f"{INNER}.ff.net.2.diff": draw(6, 5),
    }


def kohya_file(draw, prefix="lora_unet_"):
    flat = {}
    for name, tensor in every_kind(draw).items():
        module, dot, factor = next(
            name.partition(f".{factor}") for factor in FACTORS if name.endswith(f".{factor}")
        )
        flat[prefix + module.replace(".", "_") + dot + factor] = tensor
    return flat


FACTORS = ("lora_up.weight", "lora_down.weight", "lora_mid.weight", "alpha", "dora_scale", "diff_b", "diff",
           "w_norm", "b_norm", *(f"hada_w{k}_{x}" for k in (1, 2) for x in "ab"),
           "lokr_w1", "lokr_w2_a", "lokr_w2_b")  # fmt: skip


def peft_files(draw) -> tuple[dict, dict]:
    r"""PEFT's spelling: no alpha in the file; a magnitude of one axis; and what its settings say."""
    unet, text = "unet.down_blocks.1.attentions.0.proj_in", f"text_encoder.{TEXT}.mlp.fc1"
    file = {f"{name}.lora_A.weight": draw(3, 5) for name in (unet, text)}
    file |= {f"{name}.lora_B.weight": draw(6, 3) for name in (unet, text)}
    file |= {f"{unet}.lora_magnitude_vector": draw(6)}
    settings = {"unet.lora_alpha": 8, "unet.use_rslora": True, "text_encoder.lora_alpha": 1}
    return file, {"lora_adapter_metadata": json.dumps(settings), "ss_base_model_version": "sd_v1"}


def read(path, base):
    changes, unused = all_changes(open_lora(path), names_in(base))
    return changes, unused


def same(one, other) -> bool:
    def tensors(change):
        named = dict(change.factors) | ({} if change.magnitude is None else {"m": change.magnitude.flatten()})
        return {
            name: (t.dtype, t.shape, t.contiguous().view(torch.uint8).tolist()) for name, t in named.items()
        }

    return one.keys() == other.keys() and all(
        (a.kind, a.alpha, a.per_output, tensors(a)) == (b.kind, b.alpha, b.per_output, tensors(b))
        for a, b in ((one[name], other[name]) for name in one)
    )


def test_every_kind_is_read_again_to_the_same_bits_and_written_again_to_the_same_bytes(draw, tmp_path):
    save_file(kohya_file(draw), tmp_path / "a.safetensors", {"ss_tag_frequency": "{}"})
    before, unused = read(tmp_path / "a.safetensors", "sd1")
    assert unused == () and {c.kind for c in before.values()} == {"LoRA", "LoHa", "LoKr", "full"}
    assert {c.per_output for c in before.values() if c.magnitude is not None} == {True, False}
    assert export_lora(tmp_path / "a.safetensors", tmp_path / "b.safetensors") == ()
    assert same(read(tmp_path / "b.safetensors", "sd1")[0], before)
    export_lora(tmp_path / "b.safetensors", tmp_path / "c.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "c.safetensors").read_bytes()
    assert read_metadata(tmp_path / "c.safetensors")["ss_tag_frequency"] == "{}"


def test_pefts_alphas_become_tensors_and_its_settings_go(draw, tmp_path):
    file, metadata = peft_files(draw)
    save_file(file, tmp_path / "a.safetensors", metadata)
    export_lora(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert same(read(tmp_path / "b.safetensors", "sd1")[0], read(tmp_path / "a.safetensors", "sd1")[0])
    written = load_file(tmp_path / "b.safetensors")
    assert read_metadata(tmp_path / "b.safetensors") == {"ss_base_model_version": "sd_v1"}
    unet, text = "lora_unet_down_blocks_1_attentions_0_proj_in", "lora_te_text_model_encoder_layers_3_mlp_fc1"
    assert written.keys() == {
        *(
            f"{name}.{factor}"
            for name in (unet, text)
            for factor in ("lora_up.weight", "lora_down.weight", "alpha")
        ),
        f"{unet}.dora_scale",
    }
    # 8 sqrt(3) is no number of float32; 1 is.
    assert written[f"{unet}.alpha"].item() == 8 * 3**0.5 and written[f"{text}.alpha"].dtype == torch.float32


def test_stable_diffusion_xl_has_the_original_names_and_numbered_encoders(draw, tmp_path):
    modules = ("unet.down_blocks.1.attentions.0.proj_in", f"text_encoder.{TEXT}.mlp.fc1",
               "unet.down_blocks.2.attentions.0.transformer_blocks.7.ff.net.2",
               f"text_encoder_2.{TEXT}.mlp.fc2")  # fmt: skip
    file = {f"{name}.lora_A.weight": draw(3, 5) for name in modules}
    file |= {f"{name}.lora_B.weight": draw(6, 3) for name in modules}
    save_file(file, tmp_path / "a.safetensors")
    export_lora(tmp_path / "a.safetensors", tmp_path / "b.safetensors", torch.float16)
    written = load_file(tmp_path / "b.safetensors")
    assert {name.split(".")[0] for name in written} == {
        "lora_unet_input_blocks_4_1_proj_in",
        "lora_unet_input_blocks_7_1_transformer_blocks_7_ff_net_2",
        "lora_te1_text_model_encoder_layers_3_mlp_fc1",
        "lora_te2_text_model_encoder_layers_3_mlp_fc2",
    }
    assert {tensor.dtype for tensor in written.values()} == {torch.float16}


def test_what_cannot_be_written_is_an_error_and_what_is_not_kept_is_named(draw, tmp_path, capsys):
    good = kohya_file(draw)
    save_file(good | {"lora_unet_nothing.alpha": torch.tensor(1.0)}, tmp_path / "a.safetensors")
    code, out, told = run(
        capsys, "export", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--to", "kohya"
    )
    assert code == 0 and told == ["not kept: lora_unet_nothing.alpha"] and "b.safetensors" in out
    with pytest.raises(LdmError, match="b.safetensors exists and is kept"):
        export_lora(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    export_lora(tmp_path / "a.safetensors", tmp_path / "b.safetensors", force=True)
    with pytest.raises(LdmError, match="give a name that ends in .safetensors"):
        export_lora(tmp_path / "a.safetensors", tmp_path / "b.pt")
    save_file({"double_blocks.0.img_attn.qkv.lora_A.weight": draw(2, 3)}, tmp_path / "flux.safetensors")
    with pytest.raises(LdmError, match="is made for Flux; expected a LoRA for Stable Diffusion 1, 2, XL or"):
        export_lora(tmp_path / "flux.safetensors", tmp_path / "c.safetensors")
    bad = good | {f"lora_unet_{BLOCK.replace('.', '_')}_proj_in.dora_scale": torch.full((6, 1), torch.nan)}
    save_file(bad, tmp_path / "nan.safetensors")
    with pytest.raises(LdmError, match=r"unet.mid.attn.proj_in.weight \(magnitude\)"):
        export_lora(tmp_path / "nan.safetensors", tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()
    code, _, [line] = run(
        capsys,
        *("export", tmp_path / "a.safetensors", tmp_path / "c.safetensors", "--to", "kohya", "--vae", "x"),
    )
    assert code == 1 and "--vae with a LoRA, which has none; leave it out" in line


OWN = {"unet.mid.attn.layers.0.self_attn.q": (256, 256), "unet.up.0.res.0.conv_1": (256, 512, 3, 3),
       "text.layers.1.mlp.fc_1": (768, 192)}  # fmt: skip


def lora_for_tiny(path, draw, prefix=""):
    r"""A LoRA for the tiny model under its own names."""
    tensors = {}
    for module, (rows, columns, *kernel) in OWN.items():
        tensors[f"{prefix}{module}.lora_A.weight"] = draw(2, columns, *kernel).float()
        tensors[f"{prefix}{module}.lora_B.weight"] = draw(rows, 2, *[1] * len(kernel)).float()
    save_file(tensors, path)
    return path


def test_a_lora_for_the_tiny_model_is_written_like_the_others_and_fits_it_again(tmp_path, draw):
    source, out = lora_for_tiny(tmp_path / "own.safetensors", draw), tmp_path / "kohya.safetensors"
    assert dict(about(open_lora(source)))["made for"] == "the tiny model"
    assert export_lora(source, out) == ()
    names = {name.partition(".")[0] for name in load_file(out)}
    up = "lora_unet_up_blocks_0_resnets_0_conv1"  # no attention there in Stable Diffusion, and here there is
    assert names == {
        f"lora_unet_{INNER}_attn1_to_q".replace(".", "_"),
        up,
        "lora_te_text_model_encoder_layers_1_mlp_fc1",
    }
    model = ldm.load("tiny")
    merged = []
    for path in (source, out):
        lora = model.load_lora(path)
        assert lora.unused == () and len(lora.changes) == 3
        merged.append({name: model.get_parameter(name).clone() for name in lora.changes})
        model.unload()
    assert all(torch.equal(merged[0][name], merged[1][name]) for name in merged[0])
