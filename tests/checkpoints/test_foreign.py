r"""Tensors that no network asks for are dropped, ignored or refused; what is no checkpoint is named."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ldm
from ldm.checkpoints.checkpoint import split
from ldm.checkpoints.inspect import inspect
from ldm.checkpoints.write import convert, export
from ldm.errors import LdmError
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file

CONFIG = FAMILIES["sd1"]
FILE = single_file(CONFIG, random_tensors(CONFIG))
CONV = "model.diffusion_model.input_blocks.1.0.in_layers.2"


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".pt", {"string_to_token": {"*": 265}, "string_to_param": {"*": zeros(2, 768)}, "name": "x"}),
        (".pt", {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(zeros(2, 768))})}),
        (".bin", {"<cat-toy>": zeros(768)}),
        (".safetensors", {"<cat-toy>": zeros(1, 1024)}),
        (".safetensors", {"emb_params": zeros(2, 768)}),
        (".safetensors", {"clip_l": zeros(2, 768), "clip_g": zeros(2, 1280)}),
        (".safetensors", {"text_encoders_0": zeros(2, 768), "text_encoders_1": zeros(2, 1280)}),
    ],
)
def test_every_form_of_a_textual_inversion_is_called_one(tmp_path, suffix, content):
    path = tmp_path / f"easynegative{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(content, path)
    with pytest.raises(LdmError, match="a textual inversion"):
        ldm.load(path)


def test_a_small_file_of_other_shapes_is_no_textual_inversion(tmp_path):
    for file in ({"x": zeros(2, 3)}, {"a.weight": zeros(768)}):
        save_file(file, tmp_path / "x.safetensors")
        with pytest.raises(LdmError, match="1 tensors of an unknown kind"):
            ldm.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("unet.down_blocks.0.attentions.0.to_q.lora_A.weight", "a LoRA"),
        ("unet.down_blocks.0.attn1.processor.to_q_lora.down.weight", "a LoRA"),
        ("text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.up.weight", "a LoRA"),
        ("base_model.model.down_blocks.0.to_q.lora_A.default.weight", "a LoRA"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.alpha", "a LoRA"),
        ("lora_unet_x.on_input", "a LoRA"),
        ("lora_unet_x.lokr_w1", "a LoRA"),
        ("ip_adapter.1.to_k_ip.weight", "an IP-Adapter"),
        ("adapter.body.0.in_conv.weight", "a T2I-Adapter"),
        ("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", "a motion module"),
        ("768.linear1.weight", "a hypernetwork"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "a T5"),
        ("decoder.layers.2.conv.0.weight", "a TAESD"),
        ("3.conv.0.weight", "a TAESD"),
        ("model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale", "a Flux model"),
    ],
)
def test_adapters_and_other_models_are_named(tmp_path, name, what):
    save_file({name: zeros(4, 4)}, tmp_path / "x.safetensors")
    with pytest.raises(LdmError, match=f"x.safetensors is {what}"):
        ldm.load(tmp_path / "x.safetensors")
    assert inspect(tmp_path / "x.safetensors", hash=False).kind.startswith(what)


def test_an_ip_adapter_in_a_pickle_is_named_by_its_keys(tmp_path):
    torch.save({"image_proj": {"proj.weight": zeros(2)}, "ip_adapter": {}}, tmp_path / "ip-adapter.bin")
    with pytest.raises(LdmError, match="is an IP-Adapter"):
        ldm.load(tmp_path / "ip-adapter.bin")


@pytest.mark.parametrize("keys", [("model",), ("module",), ("state_dict", "model"), ("model_state_dict",)])
def test_tensors_under_the_names_that_training_programs_give_them_are_found(tmp_path, keys):
    content = FILE
    for key in reversed(keys):
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "x.ckpt")
    report = inspect(tmp_path / "x.ckpt", hash=False)
    assert report.family == "sd1" and not report.compared.missing


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\n\n<!doctype html>\n<html lang=en>", "a web page"),
        (b"\xef\xbb\xbf<HTML><HEAD><TITLE>404</TITLE>", "a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page"),
        (b"Invalid username or password.", "a text file, which begins with 'Invalid username"),
        (b'{"error": "Repository not found"}', "a JSON file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        (b"GGUF\3\0\0\0" + bytes(20), "a GGUF file"),
    ],
)
def test_what_a_download_leaves_in_place_of_the_file_is_named(tmp_path, content, what):
    (tmp_path / "v1-5.safetensors").write_bytes(content)
    with pytest.raises(LdmError, match=f"v1-5.safetensors is {what}"):
        ldm.load(tmp_path / "v1-5.safetensors")


@pytest.mark.parametrize(
    ("suffix", "what"),
    [(".onnx", "an ONNX file"), (".msgpack", "a file of Flax"), (".h5", "a file of Keras")],
)
def test_weights_in_other_programs_formats_are_named(tmp_path, suffix, what):
    (tmp_path / f"model{suffix}").write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(100))
    with pytest.raises(LdmError, match=f"is {what}: take the .safetensors"):
        ldm.load(tmp_path / f"model{suffix}")


def test_a_network_out_of_a_diffusers_folder_names_the_folder(tmp_path):
    save(tmp_path / "x.safetensors", CONFIG, FILE)
    export(tmp_path / "x.safetensors", tmp_path / "theirs", "diffusers")
    for part in ("unet", "vae", "text_encoder", "unet/diffusion_pytorch_model.safetensors"):
        folder = f"give the whole folder, {tmp_path / 'theirs'}"
        with pytest.raises(LdmError, match=f"{folder}($|, or give it to a whole model)"):
            ldm.load(tmp_path / "theirs" / part)
    weights = tmp_path / "theirs" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_flax_model.msgpack"))
    with pytest.raises(
        LdmError, match="only diffusion_flax_model.msgpack; expected one of diffusion_pytorch"
    ):
        ldm.load(tmp_path / "theirs")


@pytest.mark.parametrize(
    "name",
    [
        "cond_stage_model.logit_scale",
        "cond_stage_model.text_projection",
        "cond_stage_model.text_projection.weight",
        "cond_stage_model.transformer.vision_model.embeddings.position_ids",
        "embedding_manager.initial_embeddings",
        "first_stage_model.loss.logvar",
        "first_stage_model.model_ema.decay",
        "first_stage_model.quant_conv.num_batches_tracked",
        "global_step",
        "lvlb_weights",
        "model.sigmas",
        "denoiser.log_sigmas",
        "model_ema.num_updates",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_mean_coef2",
    ],
)
def test_what_training_leaves_behind_is_dropped_by_name(name):
    found = split(Path("x"), FILE | {name: torch.zeros(1)})
    assert name in found.dropped and found.unknown == ()


def test_clips_scale_and_projection_beside_an_encoder_that_has_neither_open(tmp_path, caplog):
    extras = {
        "cond_stage_model.logit_scale": torch.tensor(4.6),
        "cond_stage_model.transformer.text_projection.weight": torch.eye(8),
    }
    path = save(tmp_path / "x.safetensors", CONFIG, FILE | extras)
    assert ldm.load(path, device="cpu").config.name == "sd1"
    assert set(extras) <= set(convert(path, tmp_path / "ours"))  # listed as not kept
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("name", ["novelty", "model.diffusion_model.label_flag", "model_ema.novelty"])
def test_a_tensor_of_no_use_is_ignored_with_a_warning_that_names_it(tmp_path, caplog, name):
    path = save(tmp_path / "x.safetensors", CONFIG, FILE | {name: torch.zeros(1)})
    assert ldm.load(path, device="cpu").config.name == "sd1"
    assert f"ignored 1 tensor that no part of the model uses: {name}" in caplog.text
    report = inspect(path, hash=False)
    assert (
        report.supported and report.compared.ignored == (name,) and f"ignored     1: {name}" in report.text()
    )


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("scaled_fp8", "weights in fp8 with scales"),
        ("model.diffusion_model.scaled_fp8", "weights in fp8 with scales"),
        (f"{CONV}.scale_weight", "weights in fp8 with scales"),
        (f"{CONV}.weight_scale", "weights in fp8 with scales"),
        (f"{CONV}.qweight", "quantised weights"),
        (f"{CONV}.weight.absmax", "quantised weights"),
        (f"{CONV}.lora_A.weight", "a LoRA that is not merged"),
        (f"{CONV}.weight_g", "layers that this model does not have"),
        ("model.diffusion_model.middle_block.3.in_layers.0.weight", "layers that this model does not have"),
        (
            "model.diffusion_model.time_embed.cond_proj.weight",
            "a U-Net that takes the guidance scale as an input",
        ),
        ("first_stage_model.decoder.mid.attn_2.q.weight", "layers that this model does not have"),
        (
            "cond_stage_model.transformer.text_model.encoder.layers.0.adapter.weight",
            "layers that this model does not have",
        ),
    ],
)
def test_a_tensor_that_would_change_the_numbers_is_refused_with_what_it_is(tmp_path, name, what):
    path = save(tmp_path / "x.safetensors", CONFIG, FILE | {name: torch.zeros(1)})
    with pytest.raises(LdmError, match=f"has {what}.*ignoring {name} would give wrong images"):
        ldm.load(path, device="cpu")
    report = inspect(path, hash=False)
    assert not report.supported and report.compared.altering == (name,) and what in report.trouble


def test_weights_in_whole_numbers_are_refused(tmp_path):
    file = dict(FILE) | {f"{CONV}.weight": FILE[f"{CONV}.weight"].to(torch.int8)}
    path = save(tmp_path / "x.safetensors", CONFIG, file)
    with pytest.raises(LdmError, match=f"{CONV}.weight in int8 instead of floating point"):
        ldm.load(path, device="cpu")


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float8_e4m3fn,
        torch.bfloat16,
        *(pytest.param(d, marks=pytest.mark.long) for d in (torch.float8_e5m2, torch.float64)),
    ],
)
@pytest.mark.parametrize("family", ["sd1", pytest.param("sd2-base", marks=pytest.mark.long)])
def test_a_unet_in_another_dtype_than_the_rest_loads_and_converts_with_the_files_own_numbers(
    tmp_path, dtype, family
):
    config = FAMILIES[family]
    file = single_file(config, random_tensors(config))
    file = {name: t.to(dtype) if "diffusion_model" in name else t for name, t in file.items()}
    path = save(tmp_path / "512-base.safetensors", config, file)
    expected = file["model.diffusion_model.input_blocks.0.0.weight"].float()
    convert(path, tmp_path / "ours")
    convert(path, tmp_path / "half", dtype=torch.float16)
    export(path, tmp_path / "one.safetensors", "compvis")
    export(path, tmp_path / "diffusers", "diffusers")
    for name in (path.name, "ours", "one.safetensors", "diffusers"):
        model = ldm.load(tmp_path / name, device="cpu")
        assert torch.equal(model.unet.conv_in.weight, expected) and model.dtype == torch.float32
    assert load_file(tmp_path / "ours" / "unet.safetensors")["conv_in.weight"].dtype == dtype
    assert ldm.load(tmp_path / "half", device="cpu").unet.conv_in.weight.isfinite().all()
    report = inspect(path, hash=False)
    assert report.supported and str(dtype)[6:] in report.text()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_nan_in_fp8_is_found(tmp_path, dtype):
    weight = FILE[f"{CONV}.weight"].clone()
    weight[0, 0, 0, 0] = float("nan")
    path = save(tmp_path / "x.safetensors", CONFIG, FILE | {f"{CONV}.weight": weight.to(dtype)})
    with pytest.raises(LdmError, match="has NaN or infinity"):
        ldm.load(path, device="cpu")
    with pytest.raises(LdmError, match="has NaN or infinity"):
        convert(path, tmp_path / "ours")
