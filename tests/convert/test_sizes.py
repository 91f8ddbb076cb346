r"""Sizes read off shapes, at any width, and what cannot be read."""

from pathlib import Path

import pytest
import torch

from ldm.convert.checkpoint import Part, split
from ldm.convert.configure import configure
from ldm.convert.names import written
from ldm.convert.rows import text_rows
from ldm.convert.sizes import text_config, unet_config, vae_config
from ldm.errors import LdmError
from tests.convert.made import FAMILIES, random_tensors, single_file

FILES = {name: single_file(config, random_tensors(config)) for name, config in FAMILIES.items()}
PATH = Path("512-base.ckpt")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_sizes_of_a_narrow_model_are_read_from_both_layouts(name):
    config, tensors = FAMILIES[name], random_tensors(FAMILIES[name])
    path = Path("768-v.ckpt" if name == "sd2-v" else "512-base.ckpt")
    assert configure(split(path, FILES[name])) == config
    theirs = Part(written(tensors["text"], text_rows(config.text), "diffusers"), "diffusers", path)
    assert text_config(theirs, name[:3]) == config.text


def test_a_text_encoder_that_was_cut_before_its_last_layer_has_the_same_config():
    cut = {
        name: tensor
        for name, tensor in FILES["sd2-base"].items()
        if not name.startswith("cond_stage_model.model.transformer.resblocks.2.")
        and not name.endswith(("text_projection", "logit_scale"))
    }
    assert len(FILES["sd2-base"]) - len(cut) == 14
    assert configure(split(PATH, cut)) == FAMILIES["sd2-base"]


def test_a_width_of_which_the_heads_are_not_known_asks_for_a_config():
    unet = split(PATH, FILES["sd1"]).parts["unet"]
    with pytest.raises(
        LdmError, match="32 channels are no multiple of 64, so the number of heads is not known; give"
    ):
        unet_config(unet, "sd2")


def test_what_is_built_otherwise_is_an_error():
    unet, vae = (split(PATH, FILES["sd1"]).parts[name] for name in ("unet", "vae"))
    uneven = dict(unet.tensors) | {"input_blocks.2.0.in_layers.2.weight": torch.ones(3, 3, 3, 3)}
    with pytest.raises(LdmError, match="levels are not built alike"):
        unet_config(Part(uneven, "compvis", PATH), "sd1")
    with pytest.raises(LdmError, match="no tensor input_blocks.0.0.weight|levels are not built alike"):
        unet_config(Part({}, "compvis", PATH), "sd1")
    decoder = {name: t for name, t in vae.tensors.items() if name.startswith("decoder.")}
    with pytest.raises(LdmError, match="the VAE has no encoder"):
        vae_config(Part(decoder, "compvis", PATH))
    flat = dict(vae.tensors) | {"post_quant_conv.weight": torch.ones(())}
    with pytest.raises(LdmError, match=r"post_quant_conv.weight has the shape \[\]; expected a model's"):
        vae_config(Part(flat, "compvis", PATH))
