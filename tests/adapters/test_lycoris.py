r"""LoHa and LoKr, of linear maps and convolutions, in each of their forms, against loops and numpy."""

import numpy as np
import pytest
import torch

from ldm.adapters import lycoris
from ldm.adapters.merge import Change, difference
from ldm.errors import LdmError


def test_loha_of_a_convolution_flattens_the_kernel_with_the_inputs(draw):
    factors = {
        "hada_w1_a": draw(6, 2),
        "hada_w1_b": draw(2, 45),
        "hada_w2_a": draw(6, 2),
        "hada_w2_b": draw(2, 45),
    }
    one, two = (factors[f"hada_w{k}_a"] @ factors[f"hada_w{k}_b"] for k in (1, 2))
    expected = 0.75 * (one * two).reshape(6, 5, 3, 3)
    torch.testing.assert_close(difference(Change("LoHa", factors, alpha=1.5), draw(6, 5, 3, 3)), expected)


def test_lohas_tucker_form_sums_over_both_axes_of_each_core(draw):
    factors = {f"hada_{n}": draw(*s) for n, s in {
        "w1_a": (2, 6), "w1_b": (2, 5), "t1": (2, 2, 3, 3), "w2_a": (2, 6), "w2_b": (2, 5), "t2": (2, 2, 3, 3),
    }.items()}  # fmt: skip
    expected = torch.zeros(6, 5, 3, 3, dtype=torch.float64) + 1
    for k in (1, 2):
        a, b, core = (factors[f"hada_{name}"] for name in (f"w{k}_a", f"w{k}_b", f"t{k}"))
        inner = torch.zeros_like(expected)
        for i in range(2):
            for j in range(2):
                inner += a[i][:, None, None, None] * b[j][None, :, None, None] * core[i, j]
        expected *= inner
    torch.testing.assert_close(difference(Change("LoHa", factors), draw(6, 5, 3, 3)), expected)


def kron(small: torch.Tensor, large: torch.Tensor) -> torch.Tensor:
    r"""numpy's, for each number of the kernel."""
    h, w = large.shape[2:]
    result = np.zeros((small.shape[0] * large.shape[0], small.shape[1] * large.shape[1], h, w))
    for i in range(h):
        for j in range(w):
            result[:, :, i, j] = np.kron(small.numpy(), large[:, :, i, j].numpy())
    return torch.from_numpy(result)


@pytest.mark.parametrize("form", ["whole", "product", "core", "both products"])
def test_lokr_of_a_convolution_multiplies_every_number_of_the_kernel(draw, form):
    small, weight = draw(2, 3), draw(8, 15, 3, 3)
    large, alpha, factors = draw(4, 5, 3, 3), 3.0, {"lokr_w1": small}
    share = alpha / 2
    if form == "whole":
        factors["lokr_w2"], share = large, 1.0  # there is no rank, so whatever alpha says the scale is 1
    elif form == "core":
        a, b, core = draw(2, 4), draw(2, 5), draw(2, 2, 3, 3)
        factors |= {"lokr_w2_a": a, "lokr_w2_b": b, "lokr_t2": core}
        large = torch.einsum("ijhw,ip,jq->pqhw", core, a, b)
    else:
        a, b = draw(4, 2), draw(2, 45)
        factors |= {"lokr_w2_a": a, "lokr_w2_b": b}
        large = (a @ b).reshape(4, 5, 3, 3)
    if form == "both products":
        a, b = draw(2, 2), draw(2, 3)
        factors = {name: f for name, f in factors.items() if name != "lokr_w1"} | {
            "lokr_w1_a": a,
            "lokr_w1_b": b,
        }
        small = a @ b
    expected = share * kron(small, large)
    torch.testing.assert_close(difference(Change("LoKr", factors, alpha), weight), expected)


def test_the_halves_of_a_loha_have_one_size(draw):
    factors = {
        "hada_w1_a": draw(6, 2),
        "hada_w1_b": draw(2, 5),
        "hada_w2_a": draw(6, 2),
        "hada_w2_b": draw(2, 1),
    }
    with pytest.raises(LdmError, match="the halves of a LoHa"):
        lycoris.size(factors)
