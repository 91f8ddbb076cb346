r"""The transformer layer of CLIP, and its two activations."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ldm.text.transformer import ACTIVATIONS, MLP, EncoderLayer, embedding, quick_gelu

TIGHT = {"rtol": 0, "atol": 1e-12}


def test_quick_gelu_by_hand():
    # At x = ln(3) / 1.702 the sigmoid is 1 / (1 + 1/3) = 3/4.
    x = math.log(3) / 1.702
    out = quick_gelu(torch.tensor([x, -x, 0.0], dtype=torch.float64))
    torch.testing.assert_close(out, torch.tensor([0.75 * x, -0.25 * x, 0.0], dtype=torch.float64), **TIGHT)


def test_gelu_is_the_exact_one():
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    exact = torch.tensor([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(ACTIVATIONS["gelu"](x), exact, **TIGHT)


def test_quick_gelu_is_off_by_up_to_two_hundredths():
    x = torch.linspace(-6, 6, 10_001, dtype=torch.float64)
    worst = (quick_gelu(x) - ACTIVATIONS["gelu"](x)).abs().max().item()
    assert 0.019 < worst < 0.0205


def test_an_mlp_by_hand():
    r"""One channel, four hidden units with weights (1, 2, 0, 0): hidden states x and 2x; their sum comes out.

    With gelu(x) = x Phi(x) at x = 1: Phi(1) + 2 Phi(2) = 0.8413447461 + 2 * 0.9772498681 = 2.7958444822.
    """
    mlp = MLP(1, "gelu").double()
    mlp.fc_1.weight.data = torch.tensor([[1.0], [2.0], [0.0], [0.0]], dtype=torch.float64)
    nn.init.zeros_(mlp.fc_1.bias)
    nn.init.ones_(mlp.fc_2.weight)
    nn.init.zeros_(mlp.fc_2.bias)
    out = mlp(torch.ones(1, 1, 1, dtype=torch.float64))
    assert out.item() == pytest.approx(2.7958444822, abs=1e-10)


def layer_norm(x, weight, bias):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


@pytest.mark.parametrize("size", [1.0, 1e-3])
@pytest.mark.parametrize(("activation", "causal"), [("gelu", True), ("quick_gelu", False)])
def test_the_layer_equals_numpy(draw, randomise, activation, causal, size):
    layer, x = randomise(EncoderLayer(8, 2, activation)), size * draw(1, 5, 8)
    p = {name: tensor.detach().numpy() for name, tensor in layer.named_parameters()}

    def linear(h, name):
        return h @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    h = layer_norm(x.numpy()[0], p["norm_1.weight"], p["norm_1.bias"])
    q, k, v = (linear(h, f"attn.{name}").reshape(5, 2, 4).swapaxes(0, 1) for name in "qkv")
    exps = np.exp(q @ k.swapaxes(1, 2) / 2)  # sqrt(4)
    exps *= np.tril(np.ones((5, 5))) if causal else 1
    mixed = exps / exps.sum(-1, keepdims=True) @ v
    stream = x.numpy()[0] + linear(mixed.swapaxes(0, 1).reshape(5, 8), "attn.out")

    h = linear(layer_norm(stream, p["norm_2.weight"], p["norm_2.bias"]), "mlp.fc_1")
    if activation == "gelu":
        h = h / 2 * (1 + np.vectorize(math.erf)(h / math.sqrt(2)))
    else:
        h = h / (1 + np.exp(-1.702 * h))
    expected = stream + linear(h, "mlp.fc_2")
    np.testing.assert_allclose(layer(x, causal=causal)[0].detach().numpy(), expected, rtol=0, atol=1e-12)


def test_a_causal_layer_looks_back_only(draw, randomise):
    layer, x = randomise(EncoderLayer(8, 2, "gelu")), draw(2, 6, 8)
    changed = x.clone()
    changed[:, 3] = draw(2, 8)
    before, after = layer(x, causal=True), layer(changed, causal=True)
    torch.testing.assert_close(after[:, :3], before[:, :3], **TIGHT)
    assert not torch.isclose(after[:, 3:], before[:, 3:]).all(-1).any()


def test_without_the_mask_the_order_of_tokens_does_not_matter(draw, randomise):
    layer, x, order = randomise(EncoderLayer(8, 2, "gelu")), draw(2, 6, 8), [5, 2, 0, 4, 1, 3]
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order], **TIGHT)


def test_with_silent_branches_the_layer_is_the_identity(draw, randomise):
    layer, x = randomise(EncoderLayer(8, 2, "gelu")), draw(2, 6, 8)
    for last in (layer.attn.out, layer.mlp.fc_2):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    assert torch.equal(layer(x), x)


def test_an_unknown_activation_is_an_error():
    with pytest.raises(KeyError):
        MLP(4, "relu")


def test_an_embedding_draws_what_torchs_own_draws_and_learns():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        ours, after = embedding(7, 3), torch.randn(2)
        torch.manual_seed(5)
        theirs, then = nn.Embedding(7, 3), torch.randn(2)
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(after, then)
    assert ours.weight.requires_grad and (ours.num_embeddings, ours.embedding_dim) == (7, 3)


def test_on_the_meta_device_an_embedding_has_a_shape_and_no_numbers():
    with torch.device("meta"):
        weight = embedding(7, 3).weight
    assert weight.is_meta and weight.shape == (7, 3)
