r"""The residual block, halving and doubling."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ldm.errors import LdmError
from ldm.nn.resnet import Downsample, ResBlock, Upsample

TIGHT = {"rtol": 0, "atol": 1e-12}


def silu(x):
    return x / (1 + np.exp(-x))


def group_norm(x, weight, bias, groups, eps):
    out = np.empty_like(x)
    size = x.shape[1] // groups
    for b in range(len(x)):
        for c in range(0, x.shape[1], size):
            part = x[b, c : c + size]
            out[b, c : c + size] = (part - part.mean()) / np.sqrt(part.var() + eps)
    return out * weight[:, None, None] + bias[:, None, None]


def conv(x, weight, bias):
    r"""A convolution that keeps the size: the sum over kernel positions of shifted pictures."""
    r = weight.shape[-1] // 2
    height, width = x.shape[-2:]
    padded = np.pad(x, ((0, 0), (0, 0), (r, r), (r, r)))
    out = np.zeros((len(x), len(weight), height, width)) + bias[:, None, None]
    for i in range(2 * r + 1):
        for j in range(2 * r + 1):
            shifted = padded[:, :, i : i + height, j : j + width]
            out += np.einsum("oc,bchw->bohw", weight[:, :, i, j], shifted)
    return out


@pytest.mark.parametrize(("out_channels", "time_width", "eps"), [(8, 6, 1e-5), (4, None, 1e-6), (4, 6, 1e-5)])
@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_the_block_equals_numpy(draw, randomise, out_channels, time_width, eps, size):
    # With an input of a thousandth, the variance is near eps: a wrong eps cannot hide.
    block = randomise(ResBlock(4, out_channels, groups=2, eps=eps, time_width=time_width))
    x, time = size * draw(2, 4, 5, 3), draw(2, 6) if time_width else None
    p = {name: tensor.detach().numpy() for name, tensor in block.named_parameters()}
    h = silu(group_norm(x.numpy(), p["norm_1.weight"], p["norm_1.bias"], 2, eps))
    h = conv(h, p["conv_1.weight"], p["conv_1.bias"])
    if time is not None:
        h = h + (silu(time.numpy()) @ p["time_proj.weight"].T + p["time_proj.bias"])[:, :, None, None]
    h = silu(group_norm(h, p["norm_2.weight"], p["norm_2.bias"], 2, eps))
    h = conv(h, p["conv_2.weight"], p["conv_2.bias"])
    skip = conv(x.numpy(), p["skip.weight"], p["skip.bias"]) if "skip.weight" in p else x.numpy()
    np.testing.assert_allclose(block(x, time).detach().numpy(), skip + h, rtol=0, atol=1e-12)


def test_one_pixel_by_hand():
    r"""Two channels, one pixel, one group: x = (3, 1) has mean 2 and variance 1, so it normalises to (1, -1).

    SiLU gives (s, s - 1) with s = 1 / (1 + 1/e), for SiLU(-1) = -1 / (1 + e) = s - 1. conv_1 is zero with
    bias (1, -1) and norm_2 finds the same again. conv_2 passes its middle pixel: x + (s, s - 1) comes out.
    """
    block = ResBlock(2, 2, groups=1, eps=0.0).double()
    nn.init.zeros_(block.conv_1.weight)
    block.conv_1.bias.data = torch.tensor([1.0, -1.0], dtype=torch.float64)
    nn.init.dirac_(block.conv_2.weight)
    nn.init.zeros_(block.conv_2.bias)
    s = 1 / (1 + math.exp(-1))
    out = block(torch.tensor([3.0, 1.0], dtype=torch.float64).reshape(1, 2, 1, 1))
    expected = torch.tensor([3 + s, 1 + s - 1], dtype=torch.float64)
    torch.testing.assert_close(out.flatten(), expected, **TIGHT)


def test_a_block_that_reads_the_time_does_not_go_without(draw, randomise):
    block = randomise(ResBlock(4, 4, groups=2, eps=1e-5, time_width=6))
    with pytest.raises(LdmError):
        block(draw(2, 4, 5, 3))


def test_with_a_last_convolution_of_zero_the_block_is_the_identity(draw, randomise):
    block, x = randomise(ResBlock(4, 4, groups=2, eps=1e-5, time_width=6)), draw(2, 4, 5, 3)
    nn.init.zeros_(block.conv_2.weight)
    nn.init.zeros_(block.conv_2.bias)
    assert torch.equal(block(x, draw(2, 6)), x)


def test_the_correction_does_not_feel_the_size_of_the_input(draw, randomise):
    # Normalisation removes it; what is left of it travels through the skip alone.
    block, x = randomise(ResBlock(4, 4, groups=2, eps=0.0)), draw(2, 4, 5, 3)
    torch.testing.assert_close(block(7 * x) - 7 * x, block(x) - x, **TIGHT)


def test_each_picture_follows_its_own_timestep_and_no_other(draw, randomise):
    block = randomise(ResBlock(4, 4, groups=2, eps=1e-5, time_width=6))
    x, time = draw(2, 4, 5, 3), draw(2, 6)
    both = block(x, time)
    for i in range(2):
        torch.testing.assert_close(both[i : i + 1], block(x[i : i + 1], time[i : i + 1]), **TIGHT)
    assert not torch.allclose(block(x, time.flip(0)), both)


def delta_image(size, row, column):
    x = torch.zeros(1, 1, size, size, dtype=torch.float64)
    x[..., row, column] = 1
    return x


def counting_conv(module):
    r"""Give a 1-channel 3x3 convolution the weights 1..9, row by row, so that each shows where it fell."""
    module.double()
    module.conv.weight.data = torch.arange(1, 10, dtype=torch.float64).reshape(1, 1, 3, 3)
    nn.init.zeros_(module.conv.bias)
    return module


def test_where_a_single_pixel_goes_shows_the_padding():
    r"""Output (i, j) looks at three rows and columns. Padded on all sides, they start at 2i - 1: pixel (0, 0)
    is the middle of the kernel (weight 5) of output (0, 0), and nobody else's. Padded on the right and
    below, they start at 2i: pixel (0, 0) is the kernel's corner (weight 1); pixel (2, 2) is seen by four
    outputs, as the far corner 9 of (0, 0) and as the near corner 1 of (1, 1).
    """
    around = counting_conv(Downsample(1, pad=(1, 1, 1, 1)))
    after = counting_conv(Downsample(1, pad=(0, 1, 0, 1)))
    assert around(delta_image(4, 0, 0)).squeeze().tolist() == [[5, 0], [0, 0]]
    assert after(delta_image(4, 0, 0)).squeeze().tolist() == [[1, 0], [0, 0]]
    assert after(delta_image(4, 2, 2)).squeeze().tolist() == [[9, 7], [3, 1]]
    assert around(delta_image(4, 3, 3)).squeeze().tolist() == [[0, 0], [0, 9]]


def test_pad_names_left_right_top_bottom():
    left_only = counting_conv(Downsample(1, pad=(1, 0, 0, 0)))
    out = left_only(torch.ones(1, 1, 3, 4, dtype=torch.float64))
    # The first column of the kernel (1, 4, 7) meets the padding: 45 - 12 = 33, then a full 45.
    assert out.squeeze().tolist() == [33, 45]


@pytest.mark.parametrize(
    ("pad", "sizes"),
    [((1, 1, 1, 1), {(6, 8): (3, 4), (7, 5): (4, 3)}), ((0, 1, 0, 1), {(6, 8): (3, 4), (7, 5): (3, 2)})],
)
def test_half_of_an_odd_size_is_rounded_up_in_the_unet_and_down_in_the_vae(draw, pad, sizes):
    for size, half in sizes.items():
        assert Downsample(3, pad).double()(draw(2, 3, *size)).shape == (2, 3, *half)


def test_doubling_repeats_each_pixel():
    up = Upsample(1).double()
    nn.init.dirac_(up.conv.weight)
    nn.init.zeros_(up.conv.bias)
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64).reshape(1, 1, 2, 2)
    assert up(x).squeeze().tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    # To 3: output i takes input floor(i * 2 / 3), that is 0, 0, 1.
    assert up(x, size=(3, 4)).squeeze().tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4]]


def test_doubling_smooths_with_a_convolution(draw, randomise):
    up, x = randomise(Upsample(3)), draw(2, 3, 3, 5)
    blocks = x.numpy().repeat(2, axis=-1).repeat(2, axis=-2)
    expected = conv(blocks, up.conv.weight.detach().numpy(), up.conv.bias.detach().numpy())
    np.testing.assert_allclose(up(x).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_groups_that_do_not_divide_the_channels_are_an_error():
    with pytest.raises(ValueError):
        ResBlock(6, 6, groups=4, eps=1e-5)
