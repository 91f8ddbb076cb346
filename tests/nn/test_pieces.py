r"""Attention in pieces is attention, and is used where it is quicker."""

import pytest
import torch

from ldm.nn import pieces as module
from ldm.nn.attention import Attention, attention
from ldm.nn.pieces import attention_in_pieces, quickest_attention, use_pieces


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize(("n", "m"), [(1100, 70), (512, 512)])
@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("room", [2**22, 30_000])  # one piece, or several of which the last is smaller
def test_it_is_no_less_precise_than_the_kernel(monkeypatch, draw, n, m, scale, room):
    monkeypatch.setattr(module, "ROOM", room)
    exact = scale * draw(2, 3, n, 40), scale * draw(2, 3, m, 40), draw(2, 3, m, 40)
    q, k, v = (x.bfloat16() for x in exact)
    mixed, expected = attention_in_pieces(q, k, v), attention(*exact)
    assert mixed.shape == q.shape and mixed.dtype == torch.bfloat16
    assert error(mixed, expected) <= 1.1 * error(attention(q, k, v), expected)
    # Scores in bfloat16 would not do.
    rounded = (q @ k.mT * 40**-0.5).softmax(-1) @ v
    assert error(rounded, expected) > 1.3 * error(mixed, expected)


def test_large_scores_do_not_overflow(draw):
    q, k, v = (x.bfloat16() for x in (300 * draw(1, 2, 30, 8), draw(1, 2, 40, 8), draw(1, 2, 40, 8)))
    assert float((q.float() @ k.float().mT).amax()) * 8**-0.5 > 300  # e^300 is no float32
    torch.testing.assert_close(attention_in_pieces(q, k, v), attention(q, k, v), rtol=0.02, atol=0.02)


def test_in_float32_only_products_are_rounded(draw):
    # 8 binary digits at least, where the processor takes the offer at all.
    q, k, v = (draw(1, 2, 600, 8).float() for _ in range(3))
    assert error(attention_in_pieces(q, k, v), attention(q.double(), k.double(), v.double())) < 2**-7


@pytest.mark.parametrize(
    ("length", "dtype", "causal", "gradient", "compiling", "expected"),
    [
        (40, torch.bfloat16, False, False, False, "pieces"),
        (39, torch.bfloat16, False, False, False, "kernel"),
        (40, torch.float32, False, False, False, "kernel"),
        (40, torch.float16, False, False, False, "kernel"),
        (40, torch.bfloat16, True, False, False, "kernel"),
        (40, torch.bfloat16, False, "q", False, "kernel"),
        (40, torch.bfloat16, False, False, True, "kernel"),
        (40, torch.bfloat16, False, "k", False, "kernel"),
        (40, torch.bfloat16, False, "v", False, "kernel"),
    ],
)
def test_pieces_are_for_many_weights_of_bfloat16(
    monkeypatch, length, dtype, causal, gradient, compiling, expected
):
    seen = []
    monkeypatch.setattr(module, "MANY", 40 * 40)
    monkeypatch.setattr(module, "attention_in_pieces", lambda q, k, v: seen.append("pieces") or q)
    monkeypatch.setattr(module, "attention", lambda q, k, v, causal: seen.append("kernel") or q)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    q, k, v = (torch.zeros(1, 1, length, 8, dtype=dtype, requires_grad=gradient == name) for name in "qkv")
    quickest_attention(q, k, v, causal)
    assert seen == [expected]


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [("AVX-512", quickest_attention), ("AMX", attention), (None, attention)],
)
def test_only_a_cpu_with_avx_512_alone_computes_so(monkeypatch, draw, instructions, expected):
    monkeypatch.setattr(module, "bfloat16_instructions", lambda: instructions)
    network = torch.nn.Sequential(Attention(16, 2), Attention(16, 2))
    assert use_pieces(network) is network
    assert [part.kernel for part in network] == [expected] * 2


def test_a_layer_uses_its_kernel_and_gives_the_same(monkeypatch, randomise, draw):
    monkeypatch.setattr(module, "bfloat16_instructions", lambda: "AVX-512")
    monkeypatch.setattr(module, "MANY", 1)
    layer, x = randomise(Attention(16, 2)).bfloat16(), draw(2, 30, 16).bfloat16()
    with torch.no_grad():
        before = layer(x)
        seen = []
        monkeypatch.setattr(
            module, "attention_in_pieces", lambda *qkv: seen.append(qkv) or attention_in_pieces(*qkv)
        )
        after = use_pieces(layer)(x)
    assert len(seen) == 1
    torch.testing.assert_close(after, before, rtol=0.02, atol=0.02)
