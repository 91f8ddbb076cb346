r"""LMS: its weights."""

import numpy as np
import pytest
import torch

from ldm.diffusion.lms import lms, lms_step, lms_weights
from ldm.diffusion.sigmas import levels_to_path, sigma_of


def number(x):
    return torch.tensor(float(x), dtype=torch.float64)


def test_on_even_levels_the_weights_are_adams_and_bashforths():
    r"""Strides of -1. One: 1; two: (3, -1) / 2; three: (23, -16, 5) / 12; four: (55, -59, 37, -9) / 24."""
    expected = {1: [1], 2: [-1 / 2, 3 / 2], 3: [5 / 12, -16 / 12, 23 / 12]}
    expected[4] = [-9 / 24, 37 / 24, -59 / 24, 55 / 24]
    for count, weights in expected.items():
        levels = [10.0 - i for i in range(count)]
        assert lms_weights(levels, levels[-1] - 1) == pytest.approx([-w for w in weights], abs=1e-12)


def test_two_uneven_levels_by_hand():
    # The line through (4, e1) and (2, e0), from 2 to 1: at its middle, 1.5, it is 1.25 e0 - 0.25 e1; times -1.
    assert lms_weights([4.0, 2.0], 1.0) == pytest.approx([0.25, -1.25], abs=1e-12)


def test_a_step_by_hand():
    directions = [number(3)[None], number(2)[None]]
    assert lms_step(number(10)[None], directions, [0.25, -1.25]).item() == 10 + 0.75 - 2.5


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_polynomial_direction_is_followed_exactly_once_enough_is_remembered(order):
    r"""dy/dsigma = sigma^(order - 1), so y falls by (sigma^order - sigma'^order) / order."""
    sigmas = np.array([14.6, 9.0, 5.5, 2.0, 1.1, 0.3])
    path = levels_to_path(list(range(6, 0, -1)), sigmas, number(0.5)[None])
    denoise = lambda x, t, level: (x, (sigma_of(level) ** (order - 1)).expand_as(x))  # noqa: E731
    *_, before, last = lms(denoise, number(1)[None], path[:-1], lambda: number(0)[None], order=order)
    fell = before.x_prev / path[4].alpha_bar.sqrt() - last.x_prev / path[4].alpha_bar_prev.sqrt()
    assert fell.item() == pytest.approx((1.1**order - 0.3**order) / order, rel=1e-10)
    assert last.t == 2


def test_no_more_than_the_last_directions_are_remembered(draw):
    path = levels_to_path([4, 3, 2, 1], np.array([4.0, 3.0, 2.0, 1.0]), number(0.5)[None])
    denoise = lambda x, t, level: (x, torch.full_like(x, 1e9 if t == 4 else 1.0))  # noqa: E731
    *_, last = lms(denoise, draw(3), path, lambda: draw(3), order=2)
    # The third stride remembers t = 3 and 2, the fourth 2 and 1: both fall by 1.
    torch.testing.assert_close(last.x_prev, last.x_t / path[3].alpha_bar.sqrt() - 1, rtol=1e-12, atol=1e-3)
