r"""What is given in place of a checkpoint is named, whatever form it comes in."""

import pytest
import torch
from safetensors.torch import save_file

import ldm
from ldm.checkpoints.inspect import inspect
from ldm.checkpoints.write import export
from ldm.errors import LdmError
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file

CONFIG = FAMILIES["sd1"]
FILE = single_file(CONFIG, random_tensors(CONFIG))


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
    assert report.family == "sd1" and not report.missing


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
        with pytest.raises(LdmError, match=f"give the whole folder, {tmp_path / 'theirs'}$"):
            ldm.load(tmp_path / "theirs" / part)
    weights = tmp_path / "theirs" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_flax_model.msgpack"))
    with pytest.raises(
        LdmError, match="only diffusion_flax_model.msgpack; expected one of diffusion_pytorch"
    ):
        ldm.load(tmp_path / "theirs")
