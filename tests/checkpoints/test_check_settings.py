r"""Every key of a JSON is followed, compared with the tensors, or named."""

import pytest

from ldm.checkpoints.check_settings import FOR_OTHERS, check_settings
from ldm.checkpoints.settings import settings_of
from ldm.errors import LdmError
from ldm.notes import collect_notes
from tests.checkpoints.made import FAMILIES

CONFIG = FAMILIES["sd2-v"]
WRITTEN = settings_of(CONFIG, linear_projection=True)


def notes_of(**settings) -> list[str]:
    with collect_notes() as notes:
        check_settings(CONFIG, settings, linear_projection=True)
    return notes


def test_what_is_written_agrees_with_itself_and_nothing_is_said():
    assert notes_of(**WRITTEN) == []
    assert (
        sum(len(keys) for part, keys in FOR_OTHERS.items() if part != "text_encoder_2") < 25
    )  # a short list


# As diffusers 0.42 and transformers 5 write the switches of Stable Diffusion 1 and 2, all at rest.
AT_REST = {
    "unet": {
        "act_fn": "silu",
        "addition_embed_type": None,
        "addition_embed_type_num_heads": 64,
        "addition_time_embed_dim": None,
        "attention_type": "default",
        "center_input_sample": False,
        "class_embed_type": None,
        "class_embeddings_concat": False,
        "conv_in_kernel": 3,
        "cross_attention_norm": None,
        "downsample_padding": 1,
        "dropout": 0.0,
        "dual_cross_attention": False,
        "encoder_hid_dim": None,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "layers_per_block": [1, 1],
        "mid_block_only_cross_attention": None,
        "mid_block_scale_factor": 1,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "norm_eps": 1e-05,
        "num_attention_heads": None,
        "only_cross_attention": [False, False],
        "resnet_out_scale_factor": 1.0,
        "transformer_layers_per_block": 1,
        "upcast_attention": True,
        "_diffusers_version": "0.42.1",
        "_name_or_path": "x",
    },
    "vae": {"force_upcast": True, "in_channels": 3, "latents_mean": None, "shift_factor": None},
    "text_encoder": {"attention_dropout": 0.0, "dtype": "float32", "pad_token_id": 1, "projection_dim": 512},
}


def test_switches_at_rest_and_values_for_all_levels_at_once_are_nothing_to_speak_of():
    assert notes_of(**AT_REST) == []


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("unet", "time_cond_proj_dim", 256, "time_cond_proj_dim = 256; its tensors make None"),
        ("unet", "only_cross_attention", [False, True], "only_cross_attention"),
        ("unet", "flip_sin_to_cos", 1, "flip_sin_to_cos = 1; expected True"),
        ("unet", "in_channels", 9, "in_channels = 9; its tensors make 4"),
        ("unet", "layers_per_block", [1, 2], r"layers_per_block = \[1, 2\]; its tensors make 1"),
        ("unet", "block_out_channels", [64], r"block_out_channels = \[64\]; its tensors make \[64, 128\]"),
        ("unet", "transformer_layers_per_block", 2, "transformer_layers_per_block"),
        ("unet", "use_linear_projection", False, "use_linear_projection = False; its tensors make True"),
        ("vae", "latents_mean", [0.1] * 4, "latents_mean"),
        ("vae", "use_quant_conv", False, "use_quant_conv = False; expected True"),
        ("text_encoder", "intermediate_size", 33, "intermediate_size = 33; its tensors make 32"),
        ("text_encoder", "layer", "last", "layer = 'last'; its tensors make penultimate"),
    ],
)
def test_what_would_make_another_network_is_an_error(part, key, value, message):
    with pytest.raises(LdmError, match=f"{part}: its config has .*{message}"):
        check_settings(CONFIG, {part: {key: value}}, linear_projection=True)


def test_the_depth_at_a_level_without_transformers_is_free():
    # The second level of this model has none, but the middle takes its depth.
    assert notes_of(unet={"transformer_layers_per_block": [1, 1]}) == []
    with pytest.raises(LdmError):
        notes_of(unet={"transformer_layers_per_block": [1, 2]})


def test_a_key_that_nobody_knows_is_named():
    [line] = notes_of(unet={"freeu": True, "nothing": None}, vae={"new": "wide"})
    assert line.startswith("unet's freeu = True, vae's new = wide: not known here and not followed")


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        ({"clip_sample": True}, "clip_sample = True"),
        ({"thresholding": True}, "thresholding = True"),
        ({"steps_offset": 0}, "steps_offset = 0"),
        ({"timestep_spacing": "trailing"}, "timestep_spacing = 'trailing'"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}, "'leading'"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas = True"),
    ],
)
def test_how_a_scheduler_would_sample_otherwise_is_said_in_one_line(scheduler, said):
    [line] = notes_of(scheduler=scheduler)
    assert said in line and "each sampler here has its own way" in line


@pytest.mark.parametrize(
    "scheduler",
    [
        {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "timestep_spacing": "leading", "steps_offset": 1},
        {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "linspace", "use_karras_sigmas": False},
        {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 2, "algorithm_type": "dpmsolver++"},
    ],
)  # fmt: skip
def test_of_a_scheduler_that_samples_as_here_nothing_is_said(scheduler):
    assert notes_of(scheduler=scheduler) == []
