r"""One file, many networks: what the prefixes say."""

from pathlib import Path

import pytest
import torch

import ldm
from ldm.checkpoints.checkpoint import ema_names, split
from ldm.checkpoints.inspect import inspect
from ldm.errors import LdmError
from ldm.notes import collect_notes
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file, with_ema

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
    assert found.dropped == ("betas", "model_ema.decay") and found.unknown == () and not found.ema
    assert split(PATH, FILE | {"novelty": torch.ones(1)}).unknown == ("novelty",)


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
    with pytest.raises(LdmError, match="nothing in it says that they are averaged .EMA.; to take"):
        split(PATH, FILE, "ema")


def test_an_average_of_nothing_is_left_over():
    assert split(PATH, with_ema(FILE) | {"model_ema.novelty": torch.ones(1)}).unknown == (
        "model_ema.novelty",
    )


def test_of_half_an_average_the_live_weights_are_the_remedy(tmp_path):
    file = with_ema(FILE)
    del file["model_ema.diffusion_modelout0bias"], file["model_ema.diffusion_modeltime_embed0bias"]
    path = save(tmp_path / "x.safetensors", FAMILIES["sd1"], file)
    for weights in (None, "ema"):
        with pytest.raises(
            LdmError, match=r"\(EMA\) are incomplete: 2 of \d+ .*weights='live' \(--weights live"
        ):
            ldm.load(path, weights=weights)
    assert not inspect(path, hash=False).supported and "--weights live" in inspect(path, hash=False).text()
    live = FILE["model.diffusion_model.out.2.bias"].float()
    assert torch.equal(ldm.load(path, weights="live", device="cpu").unet.conv_out.bias, live)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "model.", "net.wrapped."])
def test_a_prefix_before_every_name_is_taken_off(prefix):
    plain, named = split(PATH, FILE), split(PATH, {prefix + name: t for name, t in FILE.items()})
    assert {n: p.tensors.keys() for n, p in named.parts.items()} == {
        n: p.tensors.keys() for n, p in plain.parts.items()
    }
    assert named.unknown == () and named.dropped == plain.dropped
    assert named.parts["vae"].prefix == prefix.replace("_orig_mod.", "") + "first_stage_model."


@pytest.mark.parametrize("prefix", ["model.", "diffusion_model.", "module.model.diffusion_model.", "unet."])
def test_a_unet_under_any_one_prefix_is_a_unet(prefix):
    own = {n: t for n, t in FILE.items() if n.startswith("model.diffusion_model.")}
    file = {prefix + n.removeprefix("model.diffusion_model."): t for n, t in own.items()}
    assert list(split(PATH, file | {"global_step": torch.ones(1)}).parts) == ["unet"]


def test_what_torch_compile_writes_inside_the_names_is_taken_out():
    file = {n.replace("diffusion_model.", "diffusion_model._orig_mod."): t for n, t in FILE.items()}
    assert split(PATH, file).parts["unet"].tensors.keys() == split(PATH, FILE).parts["unet"].tensors.keys()


def test_a_prefix_before_some_names_only_is_left_alone_and_shown():
    file = {f"{'ab'[i % 2]}.{name}": t for i, (name, t) in enumerate(FILE.items())}
    found = split(PATH, file)
    assert not found.parts and found.unknown[:2] == tuple(list(file)[:2])


def test_names_of_very_many_words_take_no_time():
    assert not split(PATH, {"a." * 200_000 + "b": torch.ones(1)}).parts


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


def test_that_one_set_of_weights_is_the_live_one_is_not_taken_for_granted():
    with collect_notes() as notes:
        assert not split(PATH, FILE, "live").ema
    assert any("nothing in it says whether they are live; taken as they are" in note for note in notes)
    with collect_notes() as notes:
        split(PATH, with_ema(FILE), "live")
        split(PATH, FILE)
    assert notes == []
