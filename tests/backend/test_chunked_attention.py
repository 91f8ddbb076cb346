r"""Chunked attention equals attention, and is used only where it is faster."""

import pytest
import torch

from ldm.backend import chunked_attention as module
from ldm.backend.accelerate import accelerate
from ldm.backend.chunked_attention import ChunkedAttention, chunked_attention, may_be_faster
from ldm.nn.attention import Attention, attention


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize(("n", "m"), [(1100, 70), (512, 512)])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("queries", [2048, 100])  # one chunk, or several of which the last is smaller
def test_its_errors_are_a_fraction_of_rounded_scores(monkeypatch, draw, n, m, scale, queries):
    monkeypatch.setattr(module, "QUERIES", queries)
    exact = scale * draw(2, 3, n, 40), scale * draw(2, 3, m, 40) + 2, draw(2, 3, m, 40)
    q, k, v = (x.bfloat16() for x in exact)
    mixed, expected = chunked_attention(q, k, v), attention(*(x.double() for x in (q, k, v)))
    assert mixed.shape == q.shape and mixed.dtype == torch.bfloat16
    rounded = (q @ k.mT * 40**-0.5).softmax(-1) @ v
    assert error(mixed, expected) < min(0.009, 0.75 * error(rounded, expected))


def test_large_scores_do_not_overflow(draw):
    q, k, v = (x.bfloat16() for x in (300 * draw(1, 2, 30, 8), draw(1, 2, 40, 8), draw(1, 2, 40, 8)))
    assert float((q.float() @ k.float().mT).amax()) * 8**-0.5 > 300  # e^300 is no float32
    torch.testing.assert_close(chunked_attention(q, k, v), attention(q, k, v), rtol=0.02, atol=0.02)


def test_a_score_far_above_its_estimate_is_computed_by_the_kernel(monkeypatch, draw):
    q, k, v = (x.bfloat16() for x in (draw(1, 1, 20, 8), draw(1, 1, 40, 8), draw(1, 1, 40, 8)))
    k[0, 0, 1] = 1000 * q[0, 0, 0]  # none of those that are looked at
    asked = []
    monkeypatch.setattr(module, "attention", lambda *qkv: asked.append(qkv) or attention(*qkv))
    found = chunked_attention(q, k, v)
    assert [tuple(map(id, qkv)) for qkv in asked] == [(id(q), id(k), id(v))]
    torch.testing.assert_close(found, attention(q, k, v), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("length", "dtype", "gradient", "compiling", "wins", "expected"),
    [
        (40, torch.bfloat16, None, False, True, True),
        (40, torch.bfloat16, None, False, False, False),
        (39, torch.bfloat16, None, False, True, False),
        (40, torch.float32, None, False, True, False),
        (40, torch.float16, None, False, True, False),
        (40, torch.bfloat16, "q", False, True, False),
        (40, torch.bfloat16, "k", False, True, False),
        (40, torch.bfloat16, "v", False, True, False),
        (40, torch.bfloat16, None, True, True, False),
    ],
)
def test_it_is_for_many_bfloat16_keys_on_a_cpu_where_it_won_the_trial(
    monkeypatch, length, dtype, gradient, compiling, wins, expected
):
    monkeypatch.setattr(module, "KEYS", 40)
    monkeypatch.setattr(module, "wins", lambda trial: wins)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    seen = []
    monkeypatch.setattr(module, "chunked_attention", lambda q, k, v: seen.append(1) or q)
    q, k, v = (torch.zeros(1, 1, length, 8, dtype=dtype, requires_grad=gradient == name) for name in "qkv")
    ChunkedAttention(16, 2).attend(q, k, v)
    assert bool(seen) is expected
    assert not may_be_faster(*(t.to("meta") for t in (q, k, v)))


@pytest.mark.parametrize(
    ("causal", "by_hand", "chunks"), [(False, False, 1), (True, False, 0), (False, True, 0)]
)
def test_the_accelerated_layer_gives_the_same(monkeypatch, randomise, draw, causal, by_hand, chunks):
    monkeypatch.setattr(module, "wins", lambda trial: True)
    monkeypatch.setattr(module, "KEYS", 1)
    seen = []
    monkeypatch.setattr(module, "chunked_attention", lambda *qkv: seen.append(qkv) or chunked_attention(*qkv))
    layer, x = randomise(Attention(16, 2)).bfloat16(), draw(2, 30, 16).bfloat16()
    layer.by_hand = by_hand
    with torch.no_grad():
        plain = layer(x, causal=causal)
        assert seen == []
        found = accelerate(layer)(x, causal=causal)
    assert type(layer) is ChunkedAttention and len(seen) == chunks
    torch.testing.assert_close(found, plain, rtol=0.02, atol=0.02)
