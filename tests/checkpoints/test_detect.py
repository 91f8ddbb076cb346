r"""Families and impostors by their names and shapes; the key lists are those of six real checkpoints."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ldm.checkpoints.checkpoint import Checkpoint, Part, split
from ldm.checkpoints.detect import family
from ldm.checkpoints.foreign import foreign
from ldm.checkpoints.hints import IMPLIED, prediction_in_name
from ldm.checkpoints.infer_config import configure
from ldm.checkpoints.opening import CONFIG, parameters
from ldm.checkpoints.validate import check, compare, configs_of, meta_model
from ldm.config import PRESETS, SD2_V, NoiseConfig
from ldm.errors import LdmError
from tests.checkpoints.made import FAMILIES, random_tensors, single_file

KEYS = Path(__file__).with_name("keys")
TOTALS = {
    "sd1": 1_066_235_307,
    "sd2": 1_289_952_427,
}  # the second with 23 of the 24 layers of its text encoder


def real(name: str) -> dict[str, torch.Tensor]:
    r"""Every tensor of a real checkpoint, without its numbers."""
    with gzip.open(KEYS / f"{name}.json.gz") as file:
        return {key: torch.empty(shape, device="meta") for key, shape in json.load(file).items()}


def compared(checkpoint, config):
    configs = configs_of(config)
    return compare(checkpoint, configs, {name: meta_model(name, configs[name]) for name in configs})


@pytest.mark.parametrize(
    ("name", "path", "preset"),
    [
        ("sd1", "v1-5-pruned-emaonly.safetensors", "sd1"),
        ("sd1_inpaint", "sd-v1-5-inpainting.ckpt", "sd1-inpaint"),
        ("sd2", "v2-1_512-ema-pruned.ckpt", "sd2-base"),
        ("sd2", "v2-1_768-ema-pruned.safetensors", "sd2-v"),
        ("sd2_inpaint", "512-inpainting-ema.ckpt", "sd2-inpaint"),
    ],
)
def test_a_real_list_of_keys_is_the_preset_and_every_key_is_used_or_known(name, path, preset):
    tensors = real(name)
    checkpoint = split(Path(path), tensors)
    config = configure(checkpoint)
    expected = PRESETS[preset]
    for part in ("text", "vae", "unet", "noise", "defaults"):
        assert getattr(config, part) == getattr(expected, part)
    assert config.name == preset
    found = compared(checkpoint, config)
    check(found, checkpoint)
    second = name.startswith("sd2")
    # Of OpenCLIP: twelve tensors of its last layer, its projection, its temperature. Of transformers: the positions.
    assert len(found.dropped) == (14 if second else 1)
    numbers = sum(t.numel() for part in found.tensors.values() for t in part.values())
    extra = 5 * 320 * 9 if name.endswith("inpaint") else 0  # five channels more for the first convolution
    assert numbers == TOTALS[name[:3]] + extra


def test_a_key_less_or_more_or_misshapen_is_named():
    tensors = real("sd1")
    name = "model.diffusion_model.out.2.bias"
    for change, message in (
        (lambda t: t.pop(name), f"1 missing: {name}$"),
        (
            lambda t: t.update({"model.diffusion_model.out.3.bias": t[name]}),
            "has layers that this model does not have.*ignoring model.diffusion_model.out.3.bias would give wrong",
        ),
        (
            lambda t: t.update({name: torch.empty(5, device="meta")}),
            r"1 misshapen: .*out.2.bias \[5\] instead of \[4\]$",
        ),
    ):
        file = dict(tensors)
        change(file)
        checkpoint = split(Path("x"), file)
        with pytest.raises(LdmError, match=message):
            check(compared(checkpoint, configure(checkpoint)), checkpoint)


def test_of_many_missing_keys_ten_are_named():
    tensors = {name: t for name, t in real("sd1").items() if "decoder.up" not in name}
    checkpoint = split(Path("x"), tensors)
    with pytest.raises(LdmError, match="106 missing: (.*, ){9}.* and 96 more"):
        check(compared(checkpoint, configure(checkpoint)), checkpoint)


@pytest.mark.parametrize(("name", "found", "parts"), [
    ("sdxl_base", "sdxl", {"unet": 2_567_463_684, "vae": 83_653_863, "text": 123_060_480, "text_2": 694_659_841}),
    ("sdxl_refiner", "sdxl-refiner", {"unet": 2_259_526_660, "vae": 83_653_863, "text": 694_659_841}),
])  # fmt: skip
def test_sdxl_is_named_with_its_parts_and_its_config_is_the_preset(name, found, parts):
    checkpoint = split(Path("x"), real(name))
    assert family(checkpoint) == found
    assert {part: parameters(checkpoint.parts[part].tensors) for part in parts} == parts
    assert configure(checkpoint) == PRESETS[found]
    compared_with = compared(checkpoint, PRESETS[found])
    check(compared_with, checkpoint)
    assert not compared_with.ignored and all(
        "logit_scale" in n or "position_ids" in n for n in compared_with.dropped
    )


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"], "a LoRA"),
        (["unet.down_blocks.0.attentions.0.proj_in.lora_A.weight"], "a LoRA"),
        (["text_encoder.layers.0.q_proj.lora.up.weight"], "a LoRA"),
        (["lora_te_x.hada_w1_a"], "a LoRA"),
        (["control_model.zero_convs.0.0.weight"], "a ControlNet"),
        (["controlnet_cond_embedding.conv_in.weight", "conv_in.weight"], "a ControlNet"),
        (["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"], "a language model"),
        (["transformer.h.0.attn.c_attn.weight"], "a language model"),
        (["double_blocks.0.img_attn.qkv.weight"], "a Flux model"),
        (["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"], "a Stable Diffusion 3 model"),
        (["emb_params"], "a textual inversion"),
        (["vision_model.embeddings.class_embedding", "text_model.final_layer_norm.weight"], "a CLIP"),
    ],
)
def test_what_is_no_checkpoint_is_named(names, what):
    assert foreign(names).startswith(what)
    checkpoint = split(Path("x"), {name: torch.empty(4, 4) for name in names})
    with pytest.raises(LdmError, match=f"x is {what}.*expected a checkpoint of Stable Diffusion"):
        configure(checkpoint)


def test_our_own_names_are_nothing_foreign():
    for config in FAMILIES.values():
        assert foreign(single_file(config, random_tensors(config))) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v2-1_768-ema-pruned.safetensors", "v_prediction"),
        ("768-v-ema.ckpt", "v_prediction"),
        ("my-768px-style.safetensors", "v_prediction"),
        ("SD2.1-768-finetune", "v_prediction"),
        ("v2-1_512-ema-pruned.ckpt", "epsilon"),
        ("512-base-ema.ckpt", "epsilon"),
        ("model_v_2-base512.safetensors", "epsilon"),  # a bare v is a version
        ("style-v-1.safetensors", None),
        ("style-v.ckpt", None),
        ("768-base.ckpt", None),  # one word for each
        ("mine.ckpt", None),
        ("v2-1768.ckpt", None),
    ],
)
def test_a_files_name_may_imply_what_the_model_predicts(name, said):
    found = prediction_in_name(Path(name), IMPLIED)
    assert (found and found[1]) == said


def second(path: str, marks: dict[str, torch.Tensor] | None = None):
    config = FAMILIES["sd2-base"]
    return split(Path(path), single_file(config, random_tensors(config)) | (marks or {}))


def test_a_mark_goes_before_a_name_and_the_caller_before_both(caplog):
    mark = {"v_pred": torch.tensor([])}
    found = configure(second("512-base.ckpt", mark)).noise
    assert found.prediction == "v" and not found.zero_snr
    assert configure(second("512-base.ckpt", mark | {"ztsnr": torch.tensor([])})).noise.zero_snr
    config = configure(second("768-v.ckpt"), prediction="eps")
    assert config.noise.prediction == "eps" and config.defaults.size == 512
    assert configure(second("768-v.ckpt")).name == "sd2-v"
    assert not caplog.records  # nothing was guessed


@pytest.mark.parametrize("marks", [("ztsnr",), ("v_pred", "ztsnr")])
@pytest.mark.parametrize("file", ["512-base.ckpt", "768-v.ckpt", "mine.ckpt"])
def test_saying_v_keeps_the_mark_of_zero_terminal_snr(file, marks):
    noise = configure(second(file, dict.fromkeys(marks, torch.tensor([]))), prediction="v").noise
    assert noise.prediction == "v" and noise.zero_snr


def test_zero_terminal_snr_in_our_own_config_survives_saying_v():
    config = replace(SD2_V, noise=NoiseConfig(prediction="v", zero_snr=True))
    own = replace(second("mine.safetensors"), metadata={CONFIG: config.to_json()})
    assert configure(own, prediction="v").noise.zero_snr


def test_saying_eps_of_a_file_marked_for_zero_terminal_snr_gives_a_schedule_that_works(caplog):
    marks = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    noise = configure(second("mine.ckpt", marks), prediction="eps").noise
    assert noise == NoiseConfig()
    assert "mine.ckpt" in caplog.text and "plain schedule" in caplog.text
    # Alone, the mark says nothing of what is predicted: eps stays, with a schedule that eps can be used with.
    assert configure(second("512-base.ckpt", {"ztsnr": torch.tensor([])})).noise == NoiseConfig()


def test_a_guess_is_said_with_how_to_change_it(caplog):
    assert configure(second("mine.ckpt")).noise.prediction == "eps"
    assert "taking eps" in caplog.text and "--prediction v" in caplog.text


@pytest.mark.parametrize(
    ("channels", "what"), [(8, "InstructPix2Pix"), (5, "depth to image"), (7, "takes 7 channels")]
)
def test_other_numbers_of_channels_are_named(channels, what):
    config = FAMILIES["sd2-base" if channels == 5 else "sd1"]
    file = single_file(config, random_tensors(config))
    entry = "model.diffusion_model.input_blocks.0.0.weight"
    file[entry] = torch.zeros(file[entry].shape[0], channels, 3, 3)
    with pytest.raises(LdmError, match=what):
        configure(split(Path("x"), file))


@pytest.mark.parametrize("entry", ["input_blocks.0.0.weight", "conv_in.weight"])
def test_a_unet_that_reads_no_more_than_its_vaes_latents_is_a_plain_one_of_any_number_of_channels(entry):
    def part(**shapes):
        layout = "compvis" if entry.startswith("input") else "diffusers"
        tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        return Part(tensors, layout, Path("x"))

    unet = part(**{entry: (8, 9, 3, 3), "a.proj_in.weight": (8, 8, 1, 1)})
    for latent, found in ((9, "sd1"), (4, "sd1-inpaint")):
        vae = part(**{"decoder.conv_in.weight": (8, latent, 3, 3)})
        assert family(Checkpoint(Path("x"), "", {"unet": unet, "vae": vae})) == found
    assert family(Checkpoint(Path("x"), "", {"unet": unet})) == "sd1-inpaint"


def test_parts_of_different_models_are_an_error():
    config = FAMILIES["sd1"]
    file = single_file(config, random_tensors(config))
    wide = {
        name: t.repeat(*(2 if n == 8 else 1 for n in t.shape))
        for name, t in file.items()
        if "cond_stage" in name
    }
    with pytest.raises(
        LdmError, match="its text encoder is 16 wide, but its U-Net reads a context of width 8"
    ):
        configure(split(Path("x"), file | wide))


SHAPES = {
    name: tuple(t.shape)
    for name, t in single_file(FAMILIES["sd2-base"], random_tensors(FAMILIES["sd2-base"])).items()
}
NAMES = sorted(SHAPES)


@settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.lists(st.sampled_from([0, 1, 3, 64, 2**20, 2**62]), max_size=4)),
        max_size=3,
    ),
    st.lists(st.sampled_from(NAMES), max_size=3),
    st.lists(
        st.sampled_from(["", ".", "model.", "decoder.conv_in.weight", "v_pred", "model_ema.x"]), max_size=2
    ),
)
def test_of_a_mutated_list_of_keys_only_our_own_error_comes_out(reshaped, removed, added):
    shapes = SHAPES | {name: tuple(shape) for name, shape in reshaped} | dict.fromkeys(added, (1,))
    for name in removed:
        shapes.pop(name, None)
    tensors = {}
    for name, shape in shapes.items():
        try:
            tensors[name] = torch.empty(shape, device="meta")
        except RuntimeError:  # no tensor can have so many numbers, so no file that was read has one
            return
    try:
        checkpoint = split(Path("x-base"), tensors)
        check(compared(checkpoint, configure(checkpoint)), checkpoint)
    except LdmError:
        pass
