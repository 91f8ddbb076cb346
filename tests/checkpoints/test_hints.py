r"""What a checkpoint says about itself: who is believed, and who before whom."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ldm.checkpoints.checkpoint import split
from ldm.checkpoints.hints import from_modelspec, from_original
from ldm.checkpoints.infer_config import configure
from ldm.config import NoiseConfig
from ldm.diffusion.schedule import make_alpha_bar
from ldm.errors import LdmError
from ldm.notes import collect_notes
from tests.checkpoints.made import FAMILIES, random_tensors, single_file

ZERO = make_alpha_bar(NoiseConfig(prediction="v", zero_snr=True))
V, EPS = {"modelspec.prediction_type": "v"}, {"modelspec.prediction_type": "epsilon"}

# As Stability's v2-inference-v.yaml and CompVis' v1-inference.yaml, in short.
SECOND = """\
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    parameterization: "v"
    linear_start: 0.00085
    linear_end: 0.0120
    timesteps: 1000
    scale_factor: 0.18215
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        in_channels: 4
        num_head_channels: 64 # need to fix for flash-attn
        context_dim: 8
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder
      params:
        layer: "penultimate"
"""
FIRST = SECOND.replace('    parameterization: "v"\n', "").replace("        layer:", "        device:")


def file(family):
    return single_file(FAMILIES[family], random_tensors(FAMILIES[family]))


def found(name="sd2-base", path="mine.ckpt", metadata=None, **tensors):
    checkpoint = split(Path(path), file(name) | tensors)
    checkpoint = replace(checkpoint, metadata=metadata or {})
    with collect_notes() as notes:
        return configure(checkpoint), notes


@pytest.mark.parametrize("name", ["sd1", "sd2-base"])
@pytest.mark.parametrize(
    "key", ["modelspec.prediction_type", "modelspec.predict_key"]
)  # kohya's programs, ComfyUI
def test_metadata_says_what_the_model_predicts(name, key):
    for value, prediction in (("v", "v"), ("epsilon", "eps")):
        config, notes = found(name, metadata={key: value})
        assert config.noise.prediction == prediction
        assert not any("nothing tells" in note for note in notes)
    assert found("sd2-base", metadata={key: "v"})[0].name == "sd2-v"


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, {"scheduler": {"prediction_type": "v_prediction"}}),
        ({"modelspec.architecture": "stable-diffusion-v2-512"}, {"scheduler": {"prediction_type": "epsilon"}}),
        ({"modelspec.architecture": "stable-diffusion-v1"}, {}),
        ({"modelspec.resolution": "768x768"}, {"defaults": {"size": 768}}),
        ({"modelspec.resolution": "640"}, {"defaults": {"size": 640}}),
        ({"modelspec.resolution": "768x512"}, {}),  # sizes are squares here
        ({"modelspec.resolution": "9" * 5000}, {}),
        ({"modelspec.prediction_type": "flow", "modelspec.resolution": "?"}, {}),
        ({"ss_v2": "True"}, {}),
    ],
)  # fmt: skip
def test_the_words_of_modelspec(metadata, said):
    assert from_modelspec(metadata) == said


def test_the_size_in_the_metadata_becomes_the_default():
    assert found("sd1", metadata={"modelspec.resolution": "512x512"})[0].defaults.size == 512
    size = found("sd1", metadata={"modelspec.resolution": "768x768"})[0].defaults.size
    assert size == 768


def test_a_table_of_zero_terminal_snr_is_followed_and_means_v():
    for dtype in (torch.float32, torch.float16):
        config, _ = found("sd1", alphas_cumprod=ZERO.to(dtype))
        assert (config.noise.zero_snr, config.noise.prediction) == (True, "v")
    plain = make_alpha_bar(NoiseConfig())
    config, notes = found("sd1", alphas_cumprod=plain)
    assert config.noise == NoiseConfig() and notes == []


def test_a_table_of_another_schedule_is_followed_or_said_not_to_be():
    config, _ = found("sd1", alphas_cumprod=make_alpha_bar(NoiseConfig(schedule="linear", steps=500)))
    assert (config.noise.schedule, config.noise.steps) == ("linear", 500)
    config, notes = found("sd1", alphas_cumprod=torch.linspace(0.99, 0.1, 1000))
    assert config.noise == NoiseConfig()
    assert any("alphas_cumprod is none of the schedules known here" in note for note in notes)


def test_the_scale_of_the_latents_is_the_one_that_training_measured():
    for scale, expected in ((0.5, 0.5), (0.18215, 0.18215), (float("nan"), 0.18215), (0.0, 0.18215)):
        config, notes = found("sd1", scale_factor=torch.tensor(scale))
        assert config.vae.scale == expected and notes == []
    # In half precision 0.18215 would be 0.1821.
    assert found("sd1", scale_factor=torch.tensor(0.18215).half())[0].vae.scale == 0.18215


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_a_config_of_the_original_code_beside_the_file_is_believed(tmp_path, suffix):
    path = tmp_path / "mine.ckpt"
    path.write_bytes(b"")
    (tmp_path / f"mine{suffix}").write_text(SECOND)
    config, notes = found(path=path)
    assert (config.name, config.noise.prediction) == ("sd2-v", "v")
    assert notes == [
        f"{path} predicts v: mine{suffix} beside it says so (to change it: prediction=, --prediction)"
    ]
    (tmp_path / f"mine{suffix}").write_text(FIRST)  # says nothing: then the original code takes eps
    config, notes = found(path=path)
    assert config.name == "sd2-base" and not any("nothing tells" in note for note in notes)


def test_all_that_is_asked_for_is_taken_from_the_config_beside(tmp_path):
    path = tmp_path / "mine.ckpt"
    path.write_bytes(b"")
    text = SECOND.replace("0.00085", "0.0015").replace("0.0120", "0.0195").replace("0.18215", "0.2")
    text = text.replace("timesteps: 1000", "timesteps: 400\n    beta_schedule: sqrt_linear")
    text = text.replace("num_head_channels: 64", "num_heads: 4").replace('"v"', "eps")
    (tmp_path / "mine.yaml").write_text(text.replace('layer: "penultimate"', "layer: last"))
    config, _ = found("sd1", path=path)
    assert config.noise == NoiseConfig(400, "linear", 0.0015, 0.0195, "eps")
    assert config.vae.scale == 0.2 and {level.heads for level in config.unet.levels} == {4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("in_channels: 4", "in_channels: 9"),
            "unet: mine.yaml beside it has in_channels = 9; its tensors make 4",
        ),
        (
            ("context_dim: 8", "context_dim: 768"),
            "mine.yaml beside it has cross_attention_dim = 768; its tensors",
        ),
        (('layer: "penultimate"', 'layer: "last"'), "text_encoder: mine.yaml beside it has layer = 'last'"),
        (
            ('parameterization: "v"', "parameterization: w"),
            "mine.yaml has parameterization: 'w'; expected one of v",
        ),
        (("unet_config:", "backbone_config:"), "mine.yaml is no config of Stable Diffusion"),
        (("linear_start: 0.00085", "linear_start 0.00085"), "mine.yaml, line 5: got 'linear_start 0.00085'"),
        (("linear_start: 0.00085", "linear_start: small"), "beta_start is 'small'; expected float"),
    ],
)
def test_a_config_of_another_model_beside_the_file_or_a_damaged_one_is_named(tmp_path, change, message):
    path = tmp_path / "mine.ckpt"
    path.write_bytes(b"")
    (tmp_path / "mine.yaml").write_text(SECOND.replace(*change))
    with pytest.raises(LdmError, match=message):
        found(path=path)


@pytest.mark.parametrize(
    ("word", "theirs"),
    [("linear", "scaled_linear"), ("sqrt_linear", "linear"), ("cosine", "squaredcos_cap_v2")],
)
def test_original_words_for_schedules_are_not_diffusers(tmp_path, word, theirs):
    # CompVis calls "linear" what is evenly spaced in its square roots.
    text = SECOND.replace("    timesteps", f"    beta_schedule: {word}\n    timesteps")
    (tmp_path / "x.yaml").write_text(text)
    assert from_original(tmp_path / "x.yaml")["scheduler"]["beta_schedule"] == theirs


def test_the_more_trusted_is_followed_and_a_line_says_so():
    mark = {"v_pred": torch.tensor([])}
    config, notes = found(metadata=EPS, **mark)
    assert config.noise.prediction == "v"
    assert any(
        "the mark v_pred in it says prediction_type = 'v_prediction', its metadata says 'epsilon'; taking "
        "'v_prediction'" in note
        for note in notes
    )
    config, notes = found(path="mine_epsilon-pred.ckpt", metadata=V)
    assert config.noise.prediction == "v" and len([note for note in notes if "taking" in note]) == 1
    assert found(metadata=EPS, alphas_cumprod=ZERO)[0].noise == NoiseConfig()


@pytest.mark.parametrize("name", ["style_vpred", "style-v-pred", "style v_prediction", "EasyFluff_VPred"])
def test_a_name_that_says_vpred_outright_is_believed_of_every_family(name):
    for family in ("sd1", "sd2-base"):
        assert found(family, path=f"{name}.safetensors")[0].noise.prediction == "v"


def test_what_a_name_only_implies_is_believed_of_the_second_version_alone():
    assert found("sd1", path="768-v.ckpt")[0].noise.prediction == "eps"
    config, notes = found("sd2-base", path="base-768.ckpt")
    assert config.noise.prediction == "eps" and any("nothing tells" in note for note in notes)


def test_without_a_collector_notes_are_logged(caplog):
    with caplog.at_level(logging.INFO):
        configure(split(Path("mine.ckpt"), file("sd2-base")))
    assert "nothing tells whether this Stable Diffusion 2" in caplog.text


@pytest.mark.parametrize("value", [[[]], {}, 3, True, "flow", "x" * 10_000])
def test_a_prediction_that_is_no_word_is_an_error_of_ours_in_a_line(value):
    checkpoint = replace(
        split(Path("mine.ckpt"), file("sd2-base")), settings={"scheduler": {"prediction_type": value}}
    )
    with pytest.raises(LdmError, match="expected one of epsilon"):
        configure(checkpoint)


def test_the_config_of_stable_diffusion_xls_original_code_says_what_is_predicted_and_the_scale(tmp_path):
    lines = [
        "model:",
        "  params:",
        "    scale_factor: 0.13025",
        "    denoiser_config:",
        "      params:",
        "        scaling_config:",
        "          target: sgm.modules.diffusionmodules.denoiser_scaling.VScaling",
        "    network_config:",
        "      target: sgm.modules.diffusionmodules.openaimodel.UNetModel",
        "    conditioner_config:",
        "      params:",
        "        emb_models:",
        "          - is_trainable: False",
        "            params:",
        "              layer: hidden",
    ]
    (tmp_path / "xl.yaml").write_text("\n".join(lines))
    said = from_original(tmp_path / "xl.yaml")
    assert said == {"scheduler": {"prediction_type": "v_prediction"}, "vae": {"scaling_factor": 0.13025}}
