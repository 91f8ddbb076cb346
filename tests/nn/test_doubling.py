r"""Doubled and convolved at once: what repeating and then convolving gives, and only where it is quicker."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.nn import doubling, resnet
from ldm.nn.doubling import MANY, double_and_convolve, pays
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
        torch.testing.assert_close(double_and_convolve(x, weight, b), expected, rtol=0, atol=1e-12)


def test_each_pixel_deals_out_its_shares_by_hand():
    # One pixel of 1 and rows of weights 1, 10, 100: it meets w_2 above, w_1 + w_2 and w_0 + w_1 itself, w_0 below.
    x = torch.zeros(1, 1, 3, 1, dtype=torch.float64)
    x[0, 0, 1] = 1
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    weight[0, 0, :, 1] = torch.tensor([1.0, 10.0, 100.0])
    column = double_and_convolve(x, weight, None)[0, 0, :, 0]
    assert column.tolist() == [0, 100, 110, 11, 1, 0]


@pytest.mark.parametrize(("dtype", "worse"), [(torch.float32, 1.0), (torch.bfloat16, 1.3)])
def test_little_is_lost_to_rounding(draw, dtype, worse):
    # In float32 fewer numbers are added. In bfloat16 sums of weights are rounded as the weights were, once.
    exact = draw(1, 48, 32, 32), draw(48, 48, 3, 3), draw(48)
    x, weight, bias = (t.to(dtype) for t in exact)
    expected = plainly(*exact)
    at_once = error(double_and_convolve(x, weight, bias), expected)
    assert at_once <= worse * error(plainly(x, weight, bias), expected)


@pytest.mark.parametrize(
    ("dtype", "pixels", "gradients", "library", "expected"),
    [
        (torch.float32, MANY, False, True, True),
        (torch.bfloat16, MANY, False, True, True),
        (torch.float16, MANY, False, True, False),
        (torch.float64, MANY, False, True, False),
        (torch.float32, MANY - 1, False, True, False),
        (torch.float32, MANY, True, True, False),
        (torch.float32, MANY, False, False, False),
    ],
)
def test_it_is_for_large_maps_on_a_cpu(monkeypatch, dtype, pixels, gradients, library, expected):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: library)
    with torch.set_grad_enabled(gradients):
        assert pays(torch.zeros(1, 2, pixels, 1, dtype=dtype)) is expected
        assert not pays(torch.zeros(1, 2, pixels, 1, dtype=dtype, device="meta"))


@pytest.mark.parametrize(
    ("at_once", "size", "expected"),
    [(True, None, True), (True, (64, 64), True), (True, (63, 64), False), (False, None, False)],
)
def test_the_layer_gives_the_same_in_either_way(monkeypatch, randomise, draw, at_once, size, expected):
    seen = []
    monkeypatch.setattr(resnet, "double_and_convolve", lambda *x: seen.append(x) or double_and_convolve(*x))
    layer, x = randomise(Upsample(8)).float(), draw(2, 8, 32, 32).float()
    layer.at_once = at_once
    with torch.no_grad():
        found = layer(x, size)
    assert len(seen) == expected
    torch.testing.assert_close(found, layer(x, size).detach(), rtol=0, atol=1e-4)
    assert found.shape[-2:] == (size or (64, 64))


def test_a_layer_that_learns_goes_the_plain_way(monkeypatch, randomise, draw):
    seen = []
    monkeypatch.setattr(doubling, "MANY", 1)
    monkeypatch.setattr(resnet, "double_and_convolve", lambda *x: seen.append(x) or double_and_convolve(*x))
    layer, x = randomise(Upsample(3)).float(), draw(1, 3, 4, 4).float()
    layer(x).sum().backward()
    assert seen == []
    with torch.no_grad():
        layer(x)
    assert len(seen) == 1
