r"""One file, many networks: what the prefixes say."""

from pathlib import Path

import pytest
import torch

from ldm.convert.checkpoint import ema_names, split
from ldm.errors import LdmError
from tests.convert.made import FAMILIES, random_tensors, single_file, with_ema

FILE = single_file(FAMILIES["sd1"], random_tensors(FAMILIES["sd1"]))
PATH = Path("x.ckpt")


def test_the_networks_are_told_apart_and_nothing_is_lost():
    found = split(PATH, FILE)
    assert {name: part.layout for name, part in found.parts.items()} == {
        "unet": "compvis",
        "vae": "compvis",
        "text": "diffusers",
    }
    assert sum(len(part.tensors) for part in found.parts.values()) + len(found.dropped) == len(FILE)
    assert found.dropped == ("betas", "model_ema.decay") and found.strange == () and not found.ema
    assert split(PATH, FILE | {"novelty": torch.ones(1)}).strange == ("novelty",)


def test_the_average_of_a_weight_is_called_by_its_name_without_dots():
    name = "input_blocks.1.0.in_layers.2.weight"
    assert ema_names([name]) == {name: "diffusion_modelinput_blocks10in_layers2weight"}


def test_averaged_weights_are_taken_where_there_are_any_and_live_ones_on_request():
    file, name = with_ema(FILE), "out.0.bias"
    live = FILE["model.diffusion_model.out.0.bias"]
    for weights in (None, "ema"):
        found = split(PATH, file, weights)
        assert found.ema and torch.equal(found.parts["unet"].tensors[name], live + 1)
        assert "model.diffusion_model.out.0.bias" in found.dropped
    found = split(PATH, file, "live")
    assert found.ema and torch.equal(found.parts["unet"].tensors[name], live)
    assert "model_ema.diffusion_modelout0bias" in found.dropped
    assert torch.equal(split(PATH, FILE, "live").parts["unet"].tensors[name], live)
    with pytest.raises(LdmError, match="has no averaged weights .EMA.; load it with weights='live'"):
        split(PATH, FILE, "ema")


def test_an_average_of_nothing_is_left_over_and_a_missing_one_is_not_made_up():
    file = with_ema(FILE) | {"model_ema.novelty": torch.ones(1)}
    assert split(PATH, file).strange == ("model_ema.novelty",)
    del file["model_ema.diffusion_modelout0bias"]
    assert "out.0.bias" not in split(PATH, file).parts["unet"].tensors


def test_a_file_of_one_network_needs_no_prefix():
    for part, prefix in (
        ("vae", "first_stage_model."),
        ("text", "cond_stage_model.transformer."),
        ("unet", "model.diffusion_model."),
    ):
        own = {name.removeprefix(prefix): t for name, t in FILE.items() if name.startswith(prefix)}
        for name in (own, {prefix + name: t for name, t in own.items()}):
            found = split(PATH, name)
            assert list(found.parts) == [part] and found.parts[part].tensors.keys() == own.keys()
    vae = {name.removeprefix("first_stage_model."): t for name, t in FILE.items() if "first_stage" in name}
    found = split(PATH, vae | {"loss.logvar": torch.ones(1), "model_ema.encoderconv_inweight": torch.ones(1)})
    assert set(found.dropped) == {"loss.logvar", "model_ema.encoderconv_inweight"}


def test_marks_are_seen():
    assert split(PATH, FILE | {"v_pred": torch.tensor([])}).marks == ("v_pred",)
