r"""Winograd's convolutions equal the plain ones, and are used only where products decide."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ldm.backend import winograd as module
from ldm.backend.accelerate import accelerate
from ldm.backend.winograd import WinogradConv2d, convolved_blocks, transformed_kernels, winograd_conv


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 6), (7, 4), (33, 40)])
@pytest.mark.parametrize("blocks", [1024, 50, 1])
def test_it_is_the_same_to_the_last_digits(monkeypatch, draw, size, blocks):
    monkeypatch.setattr(module, "BLOCKS", blocks)
    x, weight, bias = draw(3, 2, *size), draw(5, 2, 3, 3), draw(5)
    for b in (bias, None):
        expected = F.conv2d(x, weight, b, padding=1)
        torch.testing.assert_close(winograd_conv(x, weight, b), expected, rtol=0, atol=1e-12)


def test_one_row_by_hand():
    # A kernel of 1, 10, 100 along the middle row, over 1, 2, 3, 4 in the second row of a block.
    block = torch.zeros(1, 1, 1, 1, 4, 4, dtype=torch.float64)
    block[..., 1, :] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    weight[..., 1, :] = torch.tensor([1.0, 10.0, 100.0])
    assert convolved_blocks(block, transformed_kernels(weight)).flatten().tolist() == [321, 432, 0, 0]


def test_a_block_takes_16_products_where_a_plain_convolution_takes_36():
    assert transformed_kernels(torch.zeros(7, 5, 3, 3)).shape == (16, 5, 7)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 2e-6), (torch.bfloat16, 8e-3)])
def test_rounding_errors_are_small_and_the_bias_is_added(draw, dtype, limit):
    exact = draw(2, 64, 16, 16), draw(64, 64, 3, 3), draw(64)
    rounded = [t.to(dtype) for t in exact]
    expected = F.conv2d(*(t.double() for t in rounded), padding=1)
    assert error(winograd_conv(*rounded), expected) < limit


@pytest.mark.parametrize(
    ("conv", "size", "dtype", "gradient", "wins", "expected"),
    [
        ({"padding": 1}, (4, 8), torch.float32, False, True, True),
        ({"padding": 1}, (4, 8), torch.float32, False, False, False),
        ({"padding": 1}, (4, 8), torch.float32, True, True, False),
        ({"padding": 1}, (3, 8), torch.float32, False, True, False),
        ({"padding": 1}, (4, 8), torch.bfloat16, False, True, False),
        ({"padding": 1}, (8, 8), torch.bfloat16, False, True, True),
        ({"padding": 1}, (4, 8), torch.float64, False, True, False),
        ({"padding": 0}, (4, 8), torch.float32, False, True, False),
        ({"padding": 1, "stride": 2}, (4, 8), torch.float32, False, True, False),
        ({"padding": 1, "dilation": 2}, (4, 8), torch.float32, False, True, False),
        ({"padding": 1, "groups": 2}, (4, 8), torch.float32, False, True, False),
        ({"padding": 1, "padding_mode": "circular"}, (4, 8), torch.float32, False, True, False),
    ],
)
def test_it_is_for_large_maps_of_many_channels(monkeypatch, conv, size, dtype, gradient, wins, expected):
    monkeypatch.setattr(module, "CHANNELS", 2)
    monkeypatch.setattr(module, "PIXELS", {torch.float32: 32, torch.bfloat16: 64})
    monkeypatch.setattr(module, "wins", lambda trial: wins)
    seen = []
    monkeypatch.setattr(module, "winograd_conv", lambda x, w, b: seen.append(x.shape) or x)
    layer = accelerate(nn.Conv2d(4, 4, 3, **conv).to(dtype))
    assert type(layer) is WinogradConv2d
    layer.requires_grad_(gradient)(torch.zeros(1, 4, *size, dtype=dtype))
    assert bool(seen) is expected


def test_an_input_that_needs_a_gradient_takes_the_plain_layer(monkeypatch):
    monkeypatch.setattr(module, "CHANNELS", 2)
    monkeypatch.setattr(module, "PIXELS", {torch.float32: 32})
    monkeypatch.setattr(module, "wins", lambda trial: True)
    monkeypatch.setattr(module, "winograd_conv", lambda x, w, b: pytest.fail("a gradient is needed"))
    x = torch.zeros(1, 4, 4, 8, requires_grad=True)
    accelerate(nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False))(x).sum().backward()
    assert x.grad is not None


def test_few_channels_are_not_worth_it(monkeypatch):
    monkeypatch.setattr(module, "wins", lambda trial: True)
    monkeypatch.setattr(module, "winograd_conv", lambda x, w, b: pytest.fail("too few"))
    with torch.no_grad():
        for sizes in ((255, 256), (256, 255)):
            accelerate(nn.Conv2d(*sizes, 3, padding=1))(torch.zeros(1, sizes[0], 24, 24))


def test_the_layer_gives_the_same(monkeypatch, draw):
    monkeypatch.setattr(module, "CHANNELS", 2)
    monkeypatch.setattr(module, "wins", lambda trial: True)
    layer, x = nn.Conv2d(8, 6, 3, padding=1), draw(2, 8, 17, 20).float()
    with torch.no_grad():
        expected = layer(x)
        torch.testing.assert_close(accelerate(layer)(x), expected, rtol=1e-5, atol=1e-5)
