r"""Sizes read off shapes, at any width, and what cannot be read."""

from pathlib import Path

import pytest
import torch

from ldm.checkpoints.checkpoint import Checkpoint, Part, split
from ldm.checkpoints.infer_config import configure, lone_config
from ldm.checkpoints.infer_sizes import text_config, unet_config, vae_config
from ldm.checkpoints.key_map import text_rows
from ldm.checkpoints.names import rename
from ldm.checkpoints.validate import check, compare, configs_of, meta_model
from ldm.errors import LdmError
from ldm.notes import collect_notes
from tests.checkpoints.made import FAMILIES, random_tensors, single_file

PATH = Path("512-base.ckpt")


def file(family):
    return single_file(FAMILIES[family], random_tensors(FAMILIES[family]))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_sizes_of_a_narrow_model_are_read_from_both_layouts(name):
    config, tensors = FAMILIES[name], random_tensors(FAMILIES[name])
    path = Path("768-v.ckpt" if name == "sd2-v" else "512-base.ckpt")
    assert configure(split(path, file(name))) == config
    theirs = Part(rename(tensors["text"], text_rows(config.text), "diffusers"), "diffusers", path)
    assert text_config(theirs, "sdxl_2" if name == "sdxl-refiner" else name.partition("-")[0]) == config.text


def test_a_text_encoder_that_was_cut_before_its_last_layer_has_the_same_config():
    cut = {
        name: tensor
        for name, tensor in file("sd2-base").items()
        if not name.startswith("cond_stage_model.model.transformer.resblocks.2.")
        and not name.endswith(("text_projection", "logit_scale"))
    }
    assert len(file("sd2-base")) - len(cut) == 14
    assert configure(split(PATH, cut)) == FAMILIES["sd2-base"]


def test_a_width_of_which_the_heads_are_not_known_asks_for_a_config():
    unet = split(PATH, file("sd1")).parts["unet"]
    with pytest.raises(
        LdmError, match="32 channels are no multiple of 64, so the number of heads is not known; give"
    ):
        unet_config(unet, "sd2")


def test_what_is_built_otherwise_is_an_error():
    name = "model.diffusion_model.input_blocks.2.0.in_layers.2.weight"
    with pytest.raises(LdmError, match=r"no whole model; .* missing.* misshapen.*\[3, 3, 3, 3\] instead of"):
        checkpoint = split(PATH, file("sd1") | {name: torch.ones(3, 3, 3, 3)})
        configs = configs_of(configure(checkpoint))
        networks = {part: meta_model(part, config) for part, config in configs.items()}
        check(compare(checkpoint, configs, networks), checkpoint)
    with pytest.raises(LdmError, match="there is no tensor attn2.to_k.weight, which tells its size"):
        unet_config(Part({}, "compvis", PATH), "sd1")
    vae = split(PATH, file("sd1")).parts["vae"]
    decoder = {name: t for name, t in vae.tensors.items() if name.startswith("decoder.")}
    with pytest.raises(LdmError, match="the VAE has no encoder"):
        vae_config(Part(decoder, "compvis", PATH))
    flat = dict(vae.tensors) | {"post_quant_conv.weight": torch.ones(())}
    with pytest.raises(LdmError, match=r"post_quant_conv.weight has the shape \[\]; expected a model's"):
        vae_config(Part(flat, "compvis", PATH))


def openclip(width: int, layers: int, *extras: str) -> Part:
    r"""A text encoder in OpenCLIP's names, without its numbers."""
    shapes = {"token_embedding.weight": (9, width), "positional_embedding": (7, width)}
    shapes |= {f"transformer.resblocks.{i}.ln_1.weight": (width,) for i in range(layers)}
    shapes |= dict.fromkeys(extras, (width, width))
    return Part({name: torch.empty(s, device="meta") for name, s in shapes.items()}, "compvis", PATH)


def transformers(width: int, layers: int) -> Part:
    shapes = {
        "embeddings.token_embedding.weight": (9, width),
        "embeddings.position_embedding.weight": (7, width),
    }
    shapes |= {f"encoder.layers.{i}.layer_norm1.weight": (width,) for i in range(layers)}
    return Part({name: torch.empty(s, device="meta") for name, s in shapes.items()}, "diffusers", PATH)


@pytest.mark.parametrize(
    ("part", "told", "layers"),
    [
        (openclip(1024, 24, "text_projection"), False, 24),  # as published
        (openclip(1024, 23), False, 24),  # the last layer cut off
        (openclip(1024, 24), False, 24),  # all layers, but what follows them cut off
        (openclip(1024, 23, "text_projection"), False, 24),  # the last layer cut off, what follows it kept
        (openclip(64, 3, "logit_scale"), False, 3),
        (transformers(1024, 23), False, 24),  # as in the folders of Stable Diffusion 2
        (transformers(1024, 24), False, 24),  # OpenCLIP's, whole, in transformers' names
        (
            transformers(1024, 24),
            True,
            25,
        ),  # with JSON that says 24: transformers would read the state after them
        (transformers(64, 5), True, 6),
    ],
)
def test_the_layer_that_is_read_is_the_last_but_one_of_the_trained_model(part, told, layers):
    with collect_notes() as notes:
        found = text_config(part, "sd2", told)
    assert (found.layers, found.output, notes) == (layers, "penultimate", [])


@pytest.mark.parametrize("part", [openclip(64, 3), openclip(1024, 12), transformers(64, 3)])
def test_where_nothing_tells_which_layer_was_read_it_is_said_what_is_taken(part):
    with collect_notes() as notes:
        found = text_config(part, "sd2")
    layers = sum("ln_1.weight" in name or "norm1.weight" in name for name in part.tensors)
    assert (
        found.layers == layers + 1 and f"whether the {layers} layers of its text encoder include" in notes[0]
    )


@pytest.mark.parametrize(
    ("part", "version", "says"),
    [
        (openclip(768, 12, "text_projection"), "quick_gelu", False),  # OpenAI's own CLIP has these names, too
        (openclip(1024, 24), "gelu", False),
        (transformers(768, 12), "quick_gelu", False),
        (transformers(1024, 23), "gelu", False),
        (openclip(64, 3, "text_projection"), "gelu", True),
        (transformers(64, 3), "quick_gelu", True),
    ],
)
def test_whose_text_encoder_it_is_that_comes_alone_is_told_by_its_width_or_said_to_be_assumed(
    part, version, says
):
    with collect_notes() as notes:
        found = lone_config(Checkpoint(PATH, "file of one network", {"text": part}))
    assert found.activation == version
    assert any("taking it as one of" in note for note in notes) == says
