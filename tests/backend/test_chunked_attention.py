r"""Chunked attention equals attention, and is used only where it is faster."""

import pytest
import torch

from ldm.backend import chunked_attention as module
from ldm.backend.accelerate import accelerate
from ldm.backend.chunked_attention import ChunkedAttention, chunked_attention, is_faster
from ldm.nn.attention import Attention, attention


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize(("n", "m"), [(1100, 70), (512, 512)])
@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("chunk_size", [2**22, 30_000])  # one chunk, or several of which the last is smaller
def test_it_is_no_less_precise_than_the_kernel(monkeypatch, draw, n, m, scale, chunk_size):
    monkeypatch.setattr(module, "CHUNK_SIZE", chunk_size)
    exact = scale * draw(2, 3, n, 40), scale * draw(2, 3, m, 40), draw(2, 3, m, 40)
    q, k, v = (x.bfloat16() for x in exact)
    mixed, expected = chunked_attention(q, k, v), attention(*exact)
    assert mixed.shape == q.shape and mixed.dtype == torch.bfloat16
    assert error(mixed, expected) <= 1.1 * error(attention(q, k, v), expected)
    # Scores in bfloat16 would not do.
    rounded = (q @ k.mT * 40**-0.5).softmax(-1) @ v
    assert error(rounded, expected) > 1.3 * error(mixed, expected)


def test_large_scores_do_not_overflow(draw):
    q, k, v = (x.bfloat16() for x in (300 * draw(1, 2, 30, 8), draw(1, 2, 40, 8), draw(1, 2, 40, 8)))
    assert float((q.float() @ k.float().mT).amax()) * 8**-0.5 > 300  # e^300 is no float32
    torch.testing.assert_close(chunked_attention(q, k, v), attention(q, k, v), rtol=0.02, atol=0.02)


def test_in_float32_only_products_are_rounded(draw):
    # 8 binary digits at least, where the processor takes the offer at all.
    q, k, v = (draw(1, 2, 600, 8).float() for _ in range(3))
    assert error(chunked_attention(q, k, v), attention(q.double(), k.double(), v.double())) < 2**-7


@pytest.mark.parametrize(
    ("length", "dtype", "gradient", "compiling", "instructions", "rounds", "expected"),
    [
        (40, torch.bfloat16, None, False, "AVX-512", False, True),
        (39, torch.bfloat16, None, False, "AVX-512", False, False),
        (40, torch.float32, None, False, "AVX-512", False, False),
        (40, torch.float16, None, False, "AVX-512", False, False),
        (40, torch.bfloat16, "q", False, "AVX-512", False, False),
        (40, torch.bfloat16, "k", False, "AVX-512", False, False),
        (40, torch.bfloat16, "v", False, "AVX-512", False, False),
        (40, torch.bfloat16, None, True, "AVX-512", False, False),
        (40, torch.bfloat16, None, False, "AMX", False, False),
        (40, torch.bfloat16, None, False, None, False, False),
        (
            40,
            torch.bfloat16,
            None,
            False,
            "AVX-512",
            True,
            False,
        ),  # other threads' products would lose digits
    ],
)
def test_it_is_for_many_bfloat16_weights_on_a_cpu_with_avx_512_alone(
    monkeypatch, length, dtype, gradient, compiling, instructions, rounds, expected
):
    monkeypatch.setattr(module, "THRESHOLD", 40 * 40)
    monkeypatch.setattr(module, "bfloat16_instructions", lambda: instructions)
    monkeypatch.setattr(module, "loses_nothing", lambda: not rounds)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    q, k, v = (torch.zeros(1, 1, length, 8, dtype=dtype, requires_grad=gradient == name) for name in "qkv")
    assert is_faster(q, k, v) is expected
    assert not is_faster(*(t.to("meta") for t in (q, k, v)))


@pytest.mark.parametrize(
    ("causal", "by_hand", "chunks"), [(False, False, 1), (True, False, 0), (False, True, 0)]
)
def test_the_accelerated_layer_gives_the_same(monkeypatch, randomise, draw, causal, by_hand, chunks):
    monkeypatch.setattr(module, "bfloat16_instructions", lambda: "AVX-512")
    monkeypatch.setattr(module, "loses_nothing", lambda: True)
    monkeypatch.setattr(module, "THRESHOLD", 1)
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
