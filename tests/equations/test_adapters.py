r"""What adapters do to a weight: LoRA, DoRA, LoHa, LoKr, and several of them at once."""

import numpy as np

from ldm.adapters.dora import dora
from ldm.adapters.lora import low_rank
from ldm.adapters.lycoris import loha, lokr
from ldm.adapters.merge import Change, merged
from tests.equations.numbers import agree, normal, tensor


def test_lora():
    r"""A weight that is not square, with a rank and an alpha that differ.

    $$W' = W + s\,\frac{\alpha}{r}\,B A$$
    """
    w, b, a = normal(5, 7), normal(5, 3, seed=1), normal(3, 7, seed=2)
    s, alpha, r = 0.8, 2.0, 3
    change = Change("LoRA", {"up": tensor(b), "down": tensor(a)}, alpha)
    agree(merged(tensor(w), [(change, s)]), w + s * alpha / r * b @ a)
    agree(low_rank(tensor(b), tensor(a)), b @ a)


def test_dora():
    r"""One length for each output.

    $$W' = m\,\frac{W + \Delta W}{\lVert W + \Delta W \rVert}$$
    """
    w, delta, m = normal(5, 7), normal(5, 7, seed=1), normal(5, seed=2)
    rows = [m[i] * (w[i] + delta[i]) / np.sqrt(((w[i] + delta[i]) ** 2).sum()) for i in range(5)]
    agree(dora(tensor(w), tensor(delta), tensor(m)), rows)


def test_loha():
    r"""The element-wise product of two products.

    $$\Delta W = (B_1 A_1) \odot (B_2 A_2)$$
    """
    b1, a1, b2, a2 = normal(5, 2), normal(2, 7, seed=1), normal(5, 2, seed=2), normal(2, 7, seed=3)
    factors = {"hada_w1_a": b1, "hada_w1_b": a1, "hada_w2_a": b2, "hada_w2_b": a2}
    agree(loha({name: tensor(x) for name, x in factors.items()}), (b1 @ a1) * (b2 @ a2))


def test_lokr():
    r"""The Kronecker product, with the second matrix whole or a product itself.

    $$\Delta W = C \otimes D, \qquad D = B A \text{ or whole}$$
    """
    c, b, a = normal(2, 3), normal(5, 2, seed=1), normal(2, 4, seed=2)
    expected = np.block([[c[i, j] * (b @ a) for j in range(3)] for i in range(2)])
    shape = (10, 12)
    agree(lokr({"lokr_w1": tensor(c), "lokr_w2_a": tensor(b), "lokr_w2_b": tensor(a)}, shape), expected)
    agree(lokr({"lokr_w1": tensor(c), "lokr_w2": tensor(b @ a)}, shape), expected)


def test_several_adapters():
    r"""A LoRA and a DoRA, each computed from the model's own weight.

    $$W' = W + \sum_i s_i \left(f_i(W) - W\right)$$
    """
    w, b, a, m = normal(5, 7), normal(5, 2, seed=1), normal(2, 7, seed=2), normal(5, seed=3)
    factors = {"up": tensor(b), "down": tensor(a)}
    plain, with_lengths = Change("LoRA", factors), Change("LoRA", factors, magnitude=tensor(m))
    both = w + b @ a
    turned = m[:, None] * both / np.linalg.norm(both, axis=1, keepdims=True)
    expected = w + 0.3 * (both - w) - 0.7 * (turned - w)
    agree(merged(tensor(w), [(plain, 0.3), (with_lengths, -0.7)]), expected)
