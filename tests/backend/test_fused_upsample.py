r"""Fused upsampling equals repeating and then convolving, and is used only where it is faster."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.backend import fused_upsample as module
from ldm.backend.accelerate import accelerate
from ldm.backend.cpu import bfloat16_instructions
from ldm.backend.fused_upsample import THRESHOLD, FusedUpsample, fused_upsample, is_faster
from ldm.nn.resnet import Upsample


def plainly(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Repeated, then convolved."""
    repeated = x.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
    return F.conv2d(repeated, weight, bias, padding=1)


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3), (33, 40)])
def test_it_is_the_same_to_the_last_digits(draw, size):
    x, weight, bias = draw(2, 3, *size), draw(5, 3, 3, 3), draw(5)
    for b in (bias, None):
        expected = plainly(x, weight, b)
        torch.testing.assert_close(fused_upsample(x, weight, b), expected, rtol=0, atol=1e-12)


def test_the_contributions_of_one_pixel_by_hand():
    # One pixel of 1 and rows of weights 1, 10, 100: it meets w_2 above, w_1 + w_2 and w_0 + w_1 itself, w_0 below.
    x = torch.zeros(1, 1, 3, 1, dtype=torch.float64)
    x[0, 0, 1] = 1
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    weight[0, 0, :, 1] = torch.tensor([1.0, 10.0, 100.0])
    column = fused_upsample(x, weight, None)[0, 0, :, 0]
    assert column.tolist() == [0, 100, 110, 11, 1, 0]


IN_BFLOAT16 = pytest.mark.skipif(
    not bfloat16_instructions(), reason="fused upsampling is not used in bfloat16 then"
)


@pytest.mark.parametrize(
    ("dtype", "worse"), [(torch.float32, 1.0), pytest.param(torch.bfloat16, 1.3, marks=IN_BFLOAT16)]
)
def test_little_is_lost_to_rounding(draw, dtype, worse):
    # In float32 fewer numbers are added. In bfloat16 sums of weights are rounded as the weights were, once.
    exact = draw(1, 48, 32, 32), draw(48, 48, 3, 3), draw(48)
    x, weight, bias = (t.to(dtype) for t in exact)
    expected = plainly(*exact)
    fused = error(fused_upsample(x, weight, bias), expected)
    assert fused <= worse * error(plainly(x, weight, bias), expected)


@pytest.mark.parametrize(
    ("dtype", "pixels", "gradient", "library", "instructions", "expected"),
    [
        (torch.float32, THRESHOLD, False, True, "AMX", True),
        (torch.float32, THRESHOLD, False, True, None, True),
        (torch.bfloat16, THRESHOLD, False, True, "AMX", True),
        (torch.bfloat16, THRESHOLD, False, True, None, False),
        (torch.float16, THRESHOLD, False, True, "AMX", False),
        (torch.float64, THRESHOLD, False, True, "AMX", False),
        (torch.float32, THRESHOLD - 1, False, True, "AMX", False),
        (torch.float32, THRESHOLD, True, True, "AMX", False),
        (torch.float32, THRESHOLD, False, False, "AMX", False),
    ],
)
def test_it_is_for_large_maps_on_a_cpu(monkeypatch, dtype, pixels, gradient, library, instructions, expected):
    monkeypatch.setattr(module, "bfloat16_instructions", lambda: instructions)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: library)
    weight = torch.zeros(2, 2, 3, 3, dtype=dtype, requires_grad=gradient)
    assert is_faster(torch.zeros(1, 2, pixels, 1, dtype=dtype), weight) is expected
    assert not is_faster(torch.zeros(1, 2, pixels, 1, dtype=dtype, device="meta"), weight)


@pytest.fixture
def fused_calls(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "fused_upsample", lambda *x: seen.append(x) or fused_upsample(*x))
    return seen


@pytest.mark.parametrize(("size", "expected"), [(None, True), ((64, 64), True), ((63, 64), False)])
def test_the_accelerated_layer_gives_the_same(fused_calls, randomise, draw, size, expected):
    layer, x = randomise(Upsample(8)).float(), draw(2, 8, 32, 32).float()
    with torch.no_grad():
        plain = layer(x, size)
        assert fused_calls == []
        found = accelerate(layer)(x, size)
    assert type(layer) is FusedUpsample and len(fused_calls) == expected
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-4)
    assert found.shape[-2:] == (size or (64, 64))


def test_with_gradients_the_plain_layer_runs(monkeypatch, fused_calls, randomise, draw):
    monkeypatch.setattr(module, "THRESHOLD", 1)
    layer, x = accelerate(randomise(Upsample(3)).float()), draw(1, 3, 4, 4).float()
    layer(x).sum().backward()
    assert fused_calls == []
    with torch.no_grad():
        layer(x)
    assert len(fused_calls) == 1
    layer.requires_grad_(False)(x)
    assert len(fused_calls) == 2
    layer(x.requires_grad_()).sum().backward()
    assert len(fused_calls) == 2
