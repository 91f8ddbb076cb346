r"""The VAE's single-head attention over pixels."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ldm.vae.mid import SpatialSelfAttention

TIGHT = {"rtol": 0, "atol": 1e-12}


def test_two_pixels_by_hand():
    r"""One channel, pixels 3 and 1: mean 2, variance 1, so they normalise to 1 and -1 (eps 1e-6 aside).

    Queries are zero, so both pixels look at both alike: the mean value (1 - 1) / 2 = 0 and the bias 5 come
    out, added to the input: 8 and 6.
    """
    module = SpatialSelfAttention(1, groups=1).double()
    for name, linear in (("q", module.attn.q), ("v", module.attn.v), ("out", module.attn.out)):
        nn.init.constant_(linear.weight, 0.0 if name == "q" else 1.0)
        nn.init.constant_(linear.bias, 5.0 if name == "out" else 0.0)
    x = torch.tensor([3.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    torch.testing.assert_close(module(x).flatten(), torch.tensor([8.0, 6.0]).double(), **TIGHT)


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_the_module_equals_numpy(draw, randomise, size):
    module, x = randomise(SpatialSelfAttention(6, groups=3)), size * draw(1, 6, 3, 5)
    p = {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}
    groups = x.numpy().reshape(3, 30)
    h = (groups - groups.mean(1, keepdims=True)) / np.sqrt(groups.var(1, keepdims=True) + 1e-6)
    h = (h.reshape(6, 15) * p["norm.weight"][:, None] + p["norm.bias"][:, None]).T
    q, k, v = (h @ p[f"attn.{n}.weight"].T + p[f"attn.{n}.bias"] for n in "qkv")
    exps = np.exp(q @ k.T / math.sqrt(6))  # one head, as wide as all channels
    out = (exps / exps.sum(1, keepdims=True)) @ v @ p["attn.out.weight"].T + p["attn.out.bias"]
    expected = x.numpy() + out.T.reshape(1, 6, 3, 5)
    np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_mirroring_the_picture_mirrors_the_result(draw, randomise):
    module, x = randomise(SpatialSelfAttention(6, groups=3)), draw(2, 6, 3, 5)
    torch.testing.assert_close(module(x.flip(-1)), module(x).flip(-1), **TIGHT)


def test_far_corners_see_each_other(draw, randomise):
    module, x = randomise(SpatialSelfAttention(6, groups=6)), draw(1, 6, 9, 9)
    changed = x.clone()
    changed[..., 0, 0] = draw(6)
    assert (module(changed) - module(x))[..., 8, 8].abs().max() > 1e-6


def test_another_number_of_channels_is_an_error(draw, randomise):
    with pytest.raises(RuntimeError):
        randomise(SpatialSelfAttention(6, groups=3))(draw(1, 4, 3, 5))
