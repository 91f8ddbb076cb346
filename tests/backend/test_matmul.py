r"""Products of float32 matrices: who multiplies them changes, their digits do not."""

import pytest
import torch

from ldm.backend import matmul
from ldm.backend.accelerate import accelerate
from ldm.backend.matmul import matmul_rounds, onednn_matmul, use_onednn_matmul
from ldm.nn import attention
from ldm.nn.attention import Attention

SETTING = torch.backends.mkldnn.matmul


@pytest.fixture(autouse=True)
def as_it_was():
    before = SETTING.fp32_precision
    SETTING.fp32_precision = "none"
    matmul.onednn_is_faster.cache_clear()
    yield
    matmul.onednn_is_faster.cache_clear()
    SETTING.fp32_precision = before


def test_no_digit_is_lost_whatever_this_cpu_can(draw):
    a, b = draw(300, 200).float(), draw(200, 100).float()
    use_onednn_matmul()
    exact = a.double() @ b.double()
    assert float((a @ b - exact).norm() / exact.norm()) < 1e-6


@pytest.mark.parametrize(
    ("instructions", "card", "rounds", "wins", "expected"),
    [
        ("AVX-512", False, False, True, "bf16"),
        ("AVX-512", False, False, False, "none"),
        ("AVX-512", False, True, True, "none"),
        ("AVX-512", True, False, True, "none"),
        ("AMX", False, False, True, "none"),
        (None, False, False, True, "none"),
    ],
)
def test_torch_is_told_where_it_is_quicker_and_loses_nothing(
    monkeypatch, instructions, card, rounds, wins, expected
):
    asked_under = []
    monkeypatch.setattr(matmul, "bfloat16_instructions", lambda: instructions)
    monkeypatch.setattr(matmul, "wins", lambda trial: wins)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card)
    monkeypatch.setattr(matmul, "matmul_rounds", lambda: asked_under.append(SETTING.fp32_precision) or rounds)
    assert use_onednn_matmul() is (expected == "bf16")
    assert SETTING.fp32_precision == expected
    SETTING.fp32_precision = "none"
    with matmul.faster_matmul():
        assert SETTING.fp32_precision == expected
    assert SETTING.fp32_precision == "none"
    assert asked_under == (["bf16"] if instructions == "AVX-512" and not card else [])


@pytest.mark.parametrize("digits", [torch.bfloat16, torch.float16])
def test_lost_digits_are_noticed(monkeypatch, digits):
    assert not matmul_rounds()
    times = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: times(a.to(digits), b.to(digits)).float())
    assert matmul_rounds()


def test_what_torch_was_told_is_taken_back_whatever_happens():
    with pytest.raises(RuntimeError, match="oh"), onednn_matmul():
        assert SETTING.fp32_precision == "bf16"
        raise RuntimeError("oh")
    assert SETTING.fp32_precision == "none"


@pytest.mark.parametrize(
    ("dtype", "before", "inside"),
    [
        (torch.float32, "bf16", "ieee"),
        (torch.float32, "none", "none"),
        (torch.float64, "bf16", "bf16"),
    ],
)
def test_the_small_products_of_attention_stay_with_mkl(monkeypatch, randomise, draw, dtype, before, inside):
    plain, x, seen = randomise(Attention(8, 2)).to(dtype), draw(2, 5, 8).to(dtype), []
    expected = plain(x)
    attend = attention.attention
    monkeypatch.setattr(
        attention, "attention", lambda *given: seen.append(SETTING.fp32_precision) or attend(*given)
    )
    SETTING.fp32_precision = before
    torch.testing.assert_close(accelerate(plain)(x), expected)
    assert seen == [inside] and SETTING.fp32_precision == before
