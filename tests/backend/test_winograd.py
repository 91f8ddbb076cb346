r"""Winograd's convolutions equal the plain ones, and are used only where products decide."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ldm.backend import winograd as module
from ldm.backend.accelerate import accelerate
from ldm.backend.winograd import FOUR, TWO, Filtering, Use, WinogradConv2d, transformed_kernels, winograd_conv

BOTH = pytest.mark.parametrize("filtering", [TWO, FOUR], ids=["blocks of 2", "blocks of 4"])


def uses(
    monkeypatch: pytest.MonkeyPatch, *ways: tuple[Filtering, int, int], wins: bool = True
) -> list[object]:
    """Use these ways (blocks, channels, pixels) in float32, and the last in bfloat16; which of them were used."""
    chosen = [Use(*way, trial=module.TRIALS[0]) for way in ways]
    monkeypatch.setattr(module, "USES", {torch.float32: chosen, torch.bfloat16: chosen[-1:]})
    monkeypatch.setattr(module, "wins", lambda trial: wins)
    seen: list[object] = []
    monkeypatch.setattr(module, "winograd_conv", lambda x, w, b, filtering: seen.append(filtering) or x)
    return seen


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 6), (7, 4), (33, 40)])
@pytest.mark.parametrize("pixels", [4096, 64, 1])
@BOTH
def test_it_is_the_same_to_the_last_digits(monkeypatch, draw, size, pixels, filtering):
    monkeypatch.setattr(module, "PIXELS", pixels)
    x, weight, bias = draw(3, 2, *size), draw(5, 2, 3, 3), draw(5)
    for b in (bias, None):
        expected = F.conv2d(x, weight, b, padding=1)
        torch.testing.assert_close(winograd_conv(x, weight, b, filtering), expected, rtol=0, atol=1e-12)


@BOTH
def test_one_row_by_hand(filtering):
    # 1, 10, 100 along the middle row of the kernel, over a map of one row: 0, 1, 2, 3, 4, 0 with its padding.
    x = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).view(1, 1, 1, 4)
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    weight[..., 1, :] = torch.tensor([1.0, 10.0, 100.0])
    found = winograd_conv(x, weight, None, filtering).flatten()
    torch.testing.assert_close(found.tolist(), [210.0, 321.0, 432.0, 43.0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("filtering", "products"), [(TWO, 16), (FOUR, 36)])
def test_a_block_takes_fewer_products_than_nine_for_each_output(filtering, products):
    assert transformed_kernels(torch.zeros(7, 5, 3, 3), filtering).shape == (products, 5, 7)


@pytest.mark.parametrize(
    ("filtering", "dtype", "limit"),
    [(TWO, torch.float32, 4e-7), (FOUR, torch.float32, 2e-6), (TWO, torch.bfloat16, 6e-3)],
)
def test_rounding_errors_are_small_and_the_bias_is_added(draw, filtering, dtype, limit):
    exact = draw(2, 64, 16, 16), draw(64, 64, 3, 3), draw(64)
    rounded = [t.to(dtype) for t in exact]
    expected = F.conv2d(*(t.double() for t in rounded), padding=1)
    assert error(winograd_conv(*rounded, filtering), expected) < limit


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
    seen = uses(monkeypatch, (TWO, 2, 32), (TWO, 2, 64), wins=wins)
    layer = accelerate(nn.Conv2d(4, 4, 3, **conv).to(dtype))
    assert type(layer) is WinogradConv2d
    layer.requires_grad_(gradient)(torch.zeros(1, 4, *size, dtype=dtype))
    assert bool(seen) is expected


def test_an_input_that_needs_a_gradient_takes_the_plain_layer(monkeypatch):
    seen = uses(monkeypatch, (TWO, 2, 32))
    x = torch.zeros(1, 4, 4, 8, requires_grad=True)
    accelerate(nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False))(x).sum().backward()
    assert x.grad is not None and not seen


@pytest.mark.parametrize(
    ("channels", "size", "expected"),
    [((8, 8), 8, [FOUR]), ((8, 8), 7, [TWO]), ((7, 8), 8, [TWO]), ((8, 7), 8, [TWO]), ((3, 8), 8, [])],
)
def test_larger_blocks_are_for_larger_maps_of_more_channels(monkeypatch, channels, size, expected):
    seen = uses(monkeypatch, (FOUR, 8, 64), (TWO, 4, 16))
    with torch.no_grad():
        accelerate(nn.Conv2d(*channels, 3, padding=1))(torch.zeros(1, channels[0], size, size))
    assert seen == expected


def test_what_is_used_has_a_trial_of_its_own():
    for dtype, chosen in module.USES.items():
        for use in chosen:
            assert f"blocks of {use.filtering.side}, {str(dtype)[6:]}" in use.trial.name
    assert len({trial.name for trial in module.TRIALS}) == len(module.TRIALS)


def test_the_layer_gives_the_same(monkeypatch, draw):
    monkeypatch.setattr(module, "USES", {torch.float32: [Use(FOUR, 2, 1, module.TRIALS[0])]})
    monkeypatch.setattr(module, "wins", lambda trial: True)
    layer, x = nn.Conv2d(8, 6, 3, padding=1), draw(2, 8, 17, 20).float()
    with torch.no_grad():
        expected = layer(x)
        torch.testing.assert_close(accelerate(layer)(x), expected, rtol=1e-5, atol=1e-5)
