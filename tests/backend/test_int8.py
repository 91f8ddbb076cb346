r"""8-bit products equal the sum of whole numbers that the formula says, and stay near the plain layers."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ldm.backend import int8 as module
from ldm.backend.cpu import instruction_sets
from ldm.backend.int8 import (
    INSTRUCTIONS,
    Int8Conv2d,
    Int8Linear,
    Quantized,
    quantize,
    quantize_weight,
    stays,
    use_int8,
)
from ldm.config import SD1, SDXL, TINY
from ldm.errors import LdmError
from ldm.lab.bench.images import rounding_int8
from ldm.lab.bench.workload import FULL
from ldm.unet.unet import UNet
from tests.small import CONFIG

able = pytest.mark.skipif(
    not set(INSTRUCTIONS) & set(instruction_sets()), reason="sums of 16 bits overflow without VNNI or AMX"
)
LAYERS = {
    "linear": (lambda: nn.Linear(37, 21), (2, 5, 37)),
    "linear without bias": (lambda: nn.Linear(37, 21, bias=False), (3, 37)),
    "3x3": (lambda: nn.Conv2d(13, 7, 3, padding=1), (2, 13, 9, 11)),
    "stride 2": (lambda: nn.Conv2d(13, 7, 3, stride=2), (2, 13, 10, 9)),
}


@pytest.fixture(params=LAYERS)
def layer_and_input(request, draw):
    make, shape = LAYERS[request.param]
    layer = make()
    for weight in layer.parameters():
        weight.data.copy_(draw(*weight.shape))
    return layer.requires_grad_(False), 3 * draw(*shape).float() + 1


def in_8_bits(layer):
    layer.__class__ = Int8Linear if isinstance(layer, nn.Linear) else Int8Conv2d
    return layer


def by_formula(layer, x):
    r"""$s\, t_o \sum_c p_{oc} (q_c - z) + b_o$, the sum in whole numbers of 64 bits."""
    flat = x if isinstance(layer, nn.Conv2d) else x.flatten(0, -2)
    inputs, weight = quantize(flat), quantize_weight(layer.weight)
    numbers = inputs.numbers.long() - inputs.zero, weight.numbers.long()
    steps = inputs.step * weight.step.double().flatten()
    if isinstance(layer, nn.Conv2d):
        sums = F.conv2d(*numbers, None, layer.stride, layer.padding)
        y = steps[:, None, None] * sums + layer.bias.double()[:, None, None]
    else:
        y = (steps * F.linear(*numbers)).unflatten(0, x.shape[:-1])
        y = y if layer.bias is None else y + layer.bias.double()
    return y


def error(found, exact):
    return float((found.double() - exact.double()).norm() / exact.double().norm())


@able
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 3e-7), (torch.bfloat16, 3e-3)])
def test_it_is_a_sum_of_whole_numbers(layer_and_input, dtype, limit):
    layer, x = layer_and_input
    layer, x = layer.to(dtype), x.to(dtype)
    expected = by_formula(layer, x)
    found = in_8_bits(layer)(x)
    assert found.dtype == dtype and found.shape == expected.shape
    assert error(found, expected) < limit


@able
def test_it_is_near_the_plain_layer(layer_and_input):
    layer, x = layer_and_input
    expected = layer(x)
    assert 1e-3 < error(in_8_bits(layer)(x), expected) < 1.5e-2


def test_one_input_by_hand():
    found = quantize(torch.tensor([[-50.0, 0.0, 77.0]]))  # 127 in all: steps of 1/2
    assert (found.numbers.tolist(), found.zero) == ([[0, 100, 254]], 100)
    assert found.step == 0.5
    weight = quantize_weight(torch.tensor([[12.7, -0.1, 0.04], [0.0, 0.0, 0.0]]))
    assert weight.numbers.tolist() == [[127, -1, 0], [0, 0, 0]]
    torch.testing.assert_close(weight.step, torch.tensor([[0.1], [1.0]]))
    assert Quantized(torch.tensor([3, 5]), 0.5, 4).value().tolist() == [-0.5, 0.5]


@pytest.mark.parametrize("shift", [-1e4, -5, 0, 0.3, 5, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_number_is_off_by_half_a_step_at_most_and_zero_by_nothing(draw, shift, dtype):
    x = (draw(50, 40).float() + shift).to(dtype)
    found = quantize(x)
    assert float((found.value() - x.float()).abs().max()) <= 0.502 * found.step
    assert 0 <= found.zero <= 255


def test_feature_maps_get_channels_last(draw):
    x = draw(2, 3, 4, 5).float()
    found = quantize(x).numbers
    assert found.is_contiguous(memory_format=torch.channels_last) and found.shape == x.shape
    assert torch.equal(found, quantize(x.to(memory_format=torch.channels_last)).numbers)


@able
def test_what_is_not_finite_comes_out_as_in_the_plain_layer():
    layer = in_8_bits(nn.Linear(4, 2).requires_grad_(False))
    assert layer(torch.tensor([[1.0, float("nan"), 0, 0]])).isnan().all()
    assert layer(torch.zeros(0, 4)).shape == (0, 2)
    assert torch.equal(layer(torch.zeros(1, 4))[0], layer.bias)


def test_gradients_flow_through_the_plain_layer(draw):
    layer = in_8_bits(nn.Linear(4, 2).requires_grad_(False))
    x = draw(3, 4).float().requires_grad_()
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, 4))


def test_a_bias_that_is_trained_alone_gets_its_gradient(draw):
    layer = in_8_bits(nn.Linear(4, 2).requires_grad_(False))
    layer.bias.requires_grad_()
    layer(draw(3, 4).float()).sum().backward()
    assert layer.bias.grad.tolist() == [3, 3]


@able
def test_a_changed_weight_is_quantized_again(draw):
    layer, x = in_8_bits(nn.Linear(6, 4, bias=False).requires_grad_(False)), draw(3, 6).float()
    first = layer(x)
    layer.weight.mul_(2)
    torch.testing.assert_close(layer(x), 2 * first)
    layer.weight.data = layer.weight.data * 2  # as a LoRA does
    torch.testing.assert_close(layer(x), 4 * first)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


@pytest.mark.parametrize("config", [TINY, SD1, SDXL])
def test_what_stays_is_little_work(config, monkeypatch):
    monkeypatch.setattr(module, "check_int8", lambda weight: None)
    with torch.device("meta"):
        unet = UNet(config.unet)
    use_int8(unet)
    kept = {name for name, part in unet.named_modules() if type(part) in (nn.Linear, nn.Conv2d)}
    changed = {name for name, part in unet.named_modules() if type(part) in (Int8Linear, Int8Conv2d)}
    assert kept == {name for name in kept | changed if stays(name)}
    assert {"conv_in", "conv_out", "up.1.res.0.skip", "mid.res_1.time_proj"} <= kept
    assert {
        f"mid.attn.layers.0.{n}" for n in ("cross_attn.k", "cross_attn.v", "feed_forward.proj_out")
    } <= kept
    assert {"mid.res_1.conv_1", "up.0.upsample.conv", "mid.attn.layers.0.feed_forward.proj_in"} <= changed
    numbers = {name: unet.get_submodule(name).weight.numel() for name in kept | changed}
    assert sum(numbers[name] for name in kept) < 0.35 * sum(numbers.values())


@pytest.mark.parametrize(
    ("dtype", "device", "has", "message"),
    [
        (torch.float16, "cpu", ["avx512_vnni"], "beside float16; expected float32 or bfloat16"),
        (torch.float32, "meta", ["avx512_vnni"], "they are for a CPU: leave out int8"),
        (torch.float32, "cpu", ["avx2", "avx512_f"], "no instructions for 8-bit integers"),
    ],
)
def test_it_is_refused_where_it_would_be_slow(monkeypatch, dtype, device, has, message):
    monkeypatch.setattr(module, "instruction_sets", lambda: has)
    with pytest.raises(LdmError, match=message):
        use_int8(UNet(CONFIG.unet).to(device, dtype))


@able
@pytest.mark.long
def test_images_differ_from_float32_by_little_more_than_twice_what_bfloat16_does(tmp_path):
    r"""Twice is the goal, and the model that ships misses it by little (docs/fast.md)."""
    found = rounding_int8(tmp_path, FULL)
    assert 0 < found["int8"] < 2.25 * found["bfloat16"]
