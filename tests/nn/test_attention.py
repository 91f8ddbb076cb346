r"""Attention: the kernel, the same by hand, and the multi-head module around them."""

import math

import numpy as np
import pytest
import torch

from ldm.errors import LdmError
from ldm.nn.attention import Attention, attention, attention_weights

TIGHT = {"rtol": 0, "atol": 1e-12}


def heads_of(draw, *lengths, b=2, h=3, d=5):
    return [draw(b, h, n, d) for n in lengths]


def test_one_query_by_hand():
    r"""A query, two keys, width d = 4, so scores are divided by sqrt(4) = 2.

    q = (2 ln 3, 0, 0, 0); k_1 = (1, 0, 0, 0), k_2 = (0, 1, 0, 0): the products are 2 ln 3 and 0, the scores
    ln 3 and 0, their exponentials 3 and 1, the weights 3/4 and 1/4. With values 8 and 4 in every entry:
    3/4 * 8 + 1/4 * 4 = 7.
    """
    q = torch.tensor([2 * math.log(3), 0, 0, 0], dtype=torch.float64).reshape(1, 1, 1, 4)
    k = torch.eye(4, dtype=torch.float64)[:2].reshape(1, 1, 2, 4)
    v = torch.tensor([8.0, 4.0], dtype=torch.float64).reshape(1, 1, 2, 1).expand(1, 1, 2, 4)
    torch.testing.assert_close(
        attention_weights(q, k).flatten(), torch.tensor([0.75, 0.25], dtype=torch.float64), **TIGHT
    )
    torch.testing.assert_close(attention(q, k, v), torch.full_like(q, 7.0), **TIGHT)


@pytest.mark.parametrize("causal", [False, True])
def test_each_row_of_weights_is_a_distribution(draw, causal):
    q, k = heads_of(draw, 6, 6)
    weights = attention_weights(q, k, causal)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 6, dtype=torch.float64), **TIGHT)


def test_the_future_gets_a_weight_of_exactly_zero_and_the_past_does_not(draw):
    q, k = heads_of(draw, 6, 6)
    weights = attention_weights(q, k, causal=True)
    future = torch.ones(6, 6, dtype=torch.bool).triu(diagonal=1)
    assert (weights[..., future] == 0).all()
    assert (weights[..., ~future] > 0).all()
    assert (weights[..., 0, 0] == 1).all()  # the first position has only itself


def test_a_query_of_zero_averages_all_values(draw):
    [k, v] = heads_of(draw, 7, 7)
    out = attention(torch.zeros(2, 3, 1, 5, dtype=torch.float64), k, v)
    torch.testing.assert_close(out, v.mean(dim=-2, keepdim=True), **TIGHT)


@pytest.mark.parametrize(("n", "m", "causal"), [(6, 6, False), (6, 6, True), (6, 4, False), (1, 9, False)])
def test_the_kernel_equals_the_weights_by_hand(draw, n, m, causal):
    q, k, v = heads_of(draw, n, m, m)
    torch.testing.assert_close(attention(q, k, v, causal), attention_weights(q, k, causal) @ v, **TIGHT)


@pytest.mark.parametrize(("context_width", "causal"), [(None, False), (None, True), (10, False)])
def test_both_faces_of_the_module_agree(draw, randomise, context_width, causal):
    module = randomise(Attention(12, 3, context_width))
    x = draw(2, 5, 12)
    context = None if context_width is None else draw(2, 7, context_width)
    fast = module(x, context, causal)
    module.by_hand = True
    torch.testing.assert_close(module(x, context, causal), fast, **TIGHT)


def numpy_attention(module, x, context, causal):
    r"""One picture, one head, one query, one key at a time, in plain float64."""
    w = {name: p.detach().numpy() for name, p in module.named_parameters()}
    out = np.zeros(x.shape)
    d = x.shape[-1] // module.heads
    for b in range(len(x)):
        q, k, v = (
            rows[b].numpy() @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)
            for name, rows in (("q", x), ("k", context), ("v", context))
        )
        mixed = np.zeros(x.shape[1:])
        for head in range(module.heads):
            part = slice(head * d, (head + 1) * d)  # head 0 owns the first d channels, and so on
            for i in range(len(q)):
                seen = range(i + 1) if causal else range(len(k))
                exps = np.array([math.exp(q[i, part] @ k[j, part] / math.sqrt(d)) for j in seen])
                mixed[i, part] = sum(e * v[j, part] for e, j in zip(exps, seen)) / exps.sum()
        out[b] = mixed @ w["out.weight"].T + w["out.bias"]
    return out


@pytest.mark.parametrize(("context_width", "causal", "bias"), [(None, True, True), (6, False, False)])
def test_the_module_equals_numpy_one_head_at_a_time(draw, randomise, context_width, causal, bias):
    module = randomise(Attention(8, 2, context_width, qkv_bias=bias))
    x = draw(2, 5, 8)
    context = x if context_width is None else draw(2, 3, context_width)
    expected = numpy_attention(module, x, context, causal)
    np.testing.assert_allclose(module(x, context, causal).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_self_attention_does_not_know_the_order(draw, randomise):
    module, x, order = randomise(Attention(8, 2)), draw(2, 6, 8), [3, 0, 5, 1, 4, 2]
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order], **TIGHT)


def test_cross_attention_does_not_know_the_order_of_what_it_reads(draw, randomise):
    module, x, context = randomise(Attention(8, 2, 6)), draw(2, 5, 8), draw(2, 4, 6)
    torch.testing.assert_close(module(x, context[:, [2, 0, 3, 1]]), module(x, context), **TIGHT)


def test_a_hook_sees_the_weights_that_are_used(draw, randomise):
    module, x, context = randomise(Attention(8, 2, 6)), draw(3, 5, 8), draw(3, 4, 6)
    seen = []
    module.weights_probe.register_forward_hook(lambda _, __, weights: seen.append(weights))
    module(x, context)
    assert seen == []  # the kernel never makes the weights
    module.by_hand = True
    module(x, context)
    [weights] = seen
    assert weights.shape == (3, 2, 5, 4)  # b, heads, queries, keys
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 5, dtype=torch.float64), **TIGHT)
    # A hook may also change them: told to read only the first key, every query gets the first value.
    module.weights_probe.register_forward_hook(
        lambda _, __, w: torch.zeros_like(w).index_fill(-1, torch.tensor([0]), 1.0)
    )
    first = module.out(module.v(context)[:, :1])
    torch.testing.assert_close(module(x, context), first.expand(3, 5, 8), **TIGHT)


def test_watching_adds_no_weights_to_the_module():
    assert set(Attention(8, 2).state_dict()) == {
        f"{name}.{leaf}" for name in ("q", "k", "v", "out") for leaf in ("weight", "bias")
    }
    without = set(Attention(8, 2, qkv_bias=False).state_dict())
    assert without == {"q.weight", "k.weight", "v.weight", "out.weight", "out.bias"}


def test_heads_that_do_not_divide_the_width_are_an_error():
    with pytest.raises(LdmError, match="3 heads do not divide a width of 8"):
        Attention(8, 3)


def test_a_context_of_another_width_is_an_error(draw):
    with pytest.raises(RuntimeError):
        Attention(8, 2, context_width=6).double()(draw(1, 2, 8), draw(1, 3, 5))
