r"""The spatial transformer of the U-Net."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ldm.unet.transformer import BasicTransformerBlock, FeedForward, SpatialTransformer

TIGHT = {"rtol": 0, "atol": 1e-12}


def gelu(x):
    return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def norm(x, weight, bias, eps):
    r"""Over the last axis."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def test_the_first_half_is_the_value_and_the_second_the_gate():
    r"""Width 1, four hidden units. At x = 2 the values are 3, 0, 0, 0 (weight 0, bias 3) and the gates all 2.

    3 * GELU(2) = 3 * 2 * Phi(2) = 6 * (1 + erf(2 / sqrt 2)) / 2 = 6 * 0.9772498681 = 5.8634992083.
    Were the halves swapped, GELU(3) * 2 = 5.9919 would come out; the tanh approximation gives 5.8638.
    """
    geglu = FeedForward(1).double()
    geglu.proj_in.weight.data = torch.tensor([[0.0]] * 4 + [[1.0]] * 4, dtype=torch.float64)
    geglu.proj_in.bias.data = torch.tensor([3.0] + [0.0] * 7, dtype=torch.float64)
    nn.init.ones_(geglu.proj_out.weight)
    nn.init.zeros_(geglu.proj_out.bias)
    out = geglu(torch.full((1, 1, 1), 2.0, dtype=torch.float64))
    assert out.item() == pytest.approx(5.8634992083, abs=1e-9)


def test_closed_gates_let_only_the_bias_through(draw, randomise):
    geglu = randomise(FeedForward(4))
    geglu.proj_in.weight.data[16:] = 0
    geglu.proj_in.bias.data[16:] = -100
    torch.testing.assert_close(geglu(draw(2, 3, 4)), geglu.proj_out.bias.expand(2, 3, 4), **TIGHT)


def numpy_attention(p, name, x, context, heads):
    def split(rows, which):
        full = rows @ p[f"{name}.{which}.weight"].T
        return full.reshape(len(rows), heads, -1).swapaxes(0, 1)

    q, k, v = split(x, "q"), split(context, "k"), split(context, "v")
    exps = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1]))
    mixed = (exps / exps.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(x.shape)
    return mixed @ p[f"{name}.out.weight"].T + p[f"{name}.out.bias"]


def numpy_layer(p, prefix, x, context, heads):
    def normed(i):
        return norm(x, p[f"{prefix}norm_{i}.weight"], p[f"{prefix}norm_{i}.bias"], 1e-5)

    h = normed(1)
    x = x + numpy_attention(p, f"{prefix}self_attn", h, h, heads)
    x = x + numpy_attention(p, f"{prefix}cross_attn", normed(2), context, heads)
    hidden = normed(3) @ p[f"{prefix}feed_forward.proj_in.weight"].T + p[f"{prefix}feed_forward.proj_in.bias"]
    value, gate = np.split(hidden, 2, axis=-1)
    out = p[f"{prefix}feed_forward.proj_out.weight"], p[f"{prefix}feed_forward.proj_out.bias"]
    return x + (value * gelu(gate)) @ out[0].T + out[1]


def parameters_of(module):
    return {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}


def test_a_layer_equals_numpy(draw, randomise):
    layer, x, context = randomise(BasicTransformerBlock(8, 2, 6)), draw(2, 5, 8), draw(2, 3, 6)
    expected = [numpy_layer(parameters_of(layer), "", *pair, 2) for pair in zip(x.numpy(), context.numpy())]
    np.testing.assert_allclose(layer(x, context).detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_the_whole_equals_numpy(draw, randomise, size):
    module = randomise(SpatialTransformer(8, heads=2, depth=2, context_width=6, groups=4))
    x, context = size * draw(1, 8, 3, 5), draw(1, 4, 6)
    p = parameters_of(module)
    # A group of two channels, standardised over all of its 2 * 3 * 5 numbers.
    h = norm(x.numpy().reshape(4, 30), 1, 0, 1e-6).reshape(8, 15)
    h = (h * p["norm.weight"][:, None] + p["norm.bias"][:, None]).T  # 15 pixels, row by row, of 8 channels
    h = h @ p["proj_in.weight"].T + p["proj_in.bias"]
    for i in range(2):
        h = numpy_layer(p, f"layers.{i}.", h, context[0].numpy(), 2)
    h = h @ p["proj_out.weight"].T + p["proj_out.bias"]
    expected = x.numpy() + h.T.reshape(1, 8, 3, 5)
    np.testing.assert_allclose(module(x, context).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_the_first_norm_has_an_eps_of_one_millionth(draw):
    # An input of a thousandth has a variance v near 1e-6, so the norm divides by sqrt(v + 1e-6), not sqrt(v):
    # an eps of 1e-5 would make the result more than twice as small.
    module = SpatialTransformer(8, heads=2, depth=0, context_width=6, groups=1).double()
    for linear in (module.proj_in, module.proj_out):
        nn.init.eye_(linear.weight)
        nn.init.zeros_(linear.bias)
    x = 1e-3 * draw(1, 8, 3, 5)
    normed = (module(x, draw(1, 2, 6)) - x).detach()
    v = x.var(correction=0)
    torch.testing.assert_close(normed.var(correction=0), v / (v + 1e-6), **TIGHT)


def test_with_a_last_map_of_zero_the_module_is_the_identity(draw, randomise):
    module, x = randomise(SpatialTransformer(8, 2, 1, 6, 4)), draw(2, 8, 3, 5)
    nn.init.zeros_(module.proj_out.weight)
    nn.init.zeros_(module.proj_out.bias)
    assert torch.equal(module(x, draw(2, 4, 6)), x)


def test_pixels_are_a_set_moving_them_moves_the_result(draw, randomise):
    # Only convolutions know where a pixel is: in here, mirroring the picture mirrors the output.
    module, x, context = randomise(SpatialTransformer(8, 2, 1, 6, 4)), draw(2, 8, 3, 5), draw(2, 4, 6)
    torch.testing.assert_close(module(x.flip(-1, -2), context), module(x, context).flip(-1, -2), **TIGHT)


def test_every_word_reaches_every_pixel(draw, randomise):
    module, x, context = randomise(SpatialTransformer(8, 2, 1, 6, 4)), draw(1, 8, 3, 5), draw(1, 4, 6)
    before = module(x, context)
    for word in range(4):
        changed = context.clone()
        changed[:, word] = draw(1, 6)
        assert ((module(x, changed) - before).abs().amax(dim=1) > 1e-9).all()


def test_each_picture_reads_its_own_text(draw, randomise):
    module, x, context = randomise(SpatialTransformer(8, 2, 1, 6, 4)), draw(2, 8, 3, 5), draw(2, 4, 6)
    torch.testing.assert_close(module(x, context)[1:], module(x[1:], context[1:]), **TIGHT)


def test_a_context_of_another_width_is_an_error(draw, randomise):
    with pytest.raises(RuntimeError):
        randomise(SpatialTransformer(8, 2, 1, 6, 4))(draw(1, 8, 3, 5), draw(1, 4, 7))
