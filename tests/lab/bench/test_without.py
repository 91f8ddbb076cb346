r"""The arm that does without: what it leaves out is left out, and no more."""

import torch

import ldm
from ldm.lab.bench.networks import compile_unet, decode, unet_step
from ldm.nn.attention import Attention
from ldm.nn.resnet import Upsample
from tests.lab.bench import without
from tests.lab.bench.conftest import SIZES
from tests.lab.bench.rows import GAIN_ROWS


def test_each_gain_is_measured_without_the_thing():
    assert set(without.CASES) == {row.case for row in GAIN_ROWS} >= set(without.NO_HEAP)


def test_channels_first_is_the_usual_layout_again(folder):
    model = ldm.load(folder, torch.bfloat16, "cpu")
    weights = [model.unet.conv_in.weight, model.vae.decoder.conv_in.weight]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    without.channels_first(model)
    weights = [model.unet.conv_in.weight, model.vae.decoder.conv_in.weight]
    assert all(weight.is_contiguous() for weight in weights)


def test_channels_first_is_also_what_goes_in(folder, draw):
    model, seen = ldm.load(folder, torch.float32, "cpu"), []
    for network in (model.unet, model.vae):
        for part in network.modules():
            if isinstance(part, torch.nn.Conv2d) and part.in_channels > 4:
                part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous()))
    without.channels_first(model)
    latent, side = draw(1, 4, 4, 4).float(), 4 * model.vae.factor
    model.unet(latent, torch.tensor(7), draw(1, 3, model.config.text.width).float())
    model.vae.encode(draw(1, 3, side, side).float())
    model.vae.decode(latent)
    assert len(seen) > 20 and all(seen)


def test_by_hand_is_every_attention_of_the_unet(folder):
    model = ldm.load(folder, torch.float32, "cpu")
    without.by_hand(model)
    found = [part.by_hand for part in model.unet.modules() if isinstance(part, Attention)]
    assert len(found) > 2 and all(found)


def test_unfused_upsample_is_every_upsampling_of_the_vae(folder):
    model = ldm.load(folder, torch.float32, "cpu")
    found = [part for part in model.vae.modules() if isinstance(part, Upsample)]
    assert found and Upsample not in map(type, found)
    without.unfused_upsample(model)
    assert {type(part) for part in found} == {Upsample}


def test_unbatched_guidance_evaluates_one_latent_at_a_time(folder, monkeypatch):
    model, seen = ldm.load(folder, torch.float32, "cpu"), []
    model.unet.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    monkeypatch.setattr(without, "load", lambda *_: model)
    without.unbatched_guidance(folder, SIZES, torch.float32)
    assert seen == [1] * 4  # two to warm up


def test_what_is_compiled_is_the_unet(folder, monkeypatch):
    model, told = ldm.load(folder, torch.float32, "cpu"), []
    monkeypatch.setattr(model.unet, "compile", lambda: told.append("compiled"))
    compile_unet(model)
    assert told == ["compiled"]


def test_the_change_is_made_to_the_model_that_is_measured(folder):
    told = []
    for measure in (unet_step, decode):
        measure(folder, SIZES, torch.float32, change=lambda model: told.append(model))
    assert [isinstance(model, ldm.LatentDiffusion) for model in told] == [True, True]
