r"""What else a checkpoint holds: dropped by name, ignored with a warning, or refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ldm
from ldm.checkpoints.checkpoint import split
from ldm.checkpoints.inspect import inspect
from ldm.checkpoints.write import convert, export
from ldm.errors import LdmError
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file

CONFIG = FAMILIES["sd1"]
FILE = single_file(CONFIG, random_tensors(CONFIG))
CONV = "model.diffusion_model.input_blocks.1.0.in_layers.2"


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
    assert name in found.dropped and found.strange == ()


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
    assert report.supported and report.left_over == (name,) and f"ignored     1: {name}" in report.text()


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
        ("model.diffusion_model.time_embed.cond_proj.weight", "a U-Net that takes the guidance as an input"),
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
    assert not report.supported and report.altering == (name,) and what in report.trouble


def test_weights_in_whole_numbers_are_refused(tmp_path):
    file = dict(FILE) | {f"{CONV}.weight": FILE[f"{CONV}.weight"].to(torch.int8)}
    path = save(tmp_path / "x.safetensors", CONFIG, file)
    with pytest.raises(LdmError, match=f"{CONV}.weight in int8 instead of floating point"):
        ldm.load(path, device="cpu")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64])
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
