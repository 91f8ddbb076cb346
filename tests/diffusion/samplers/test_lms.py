r"""LMS: its weights."""

import pytest
import torch

from ldm.diffusion.level import CLEAN
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers.lms import lms, lms_step, lms_weights
from tests.diffusion.made import one, silent, ve, vp


def test_on_even_levels_the_weights_are_adams_and_bashforths():
    r"""Steps of -1. One: 1; two: (3, -1) / 2; three: (23, -16, 5) / 12; four: (55, -59, 37, -9) / 24."""
    expected = {1: [1], 2: [-1 / 2, 3 / 2], 3: [5 / 12, -16 / 12, 23 / 12]}
    expected[4] = [-9 / 24, 37 / 24, -59 / 24, 55 / 24]
    for count, weights in expected.items():
        levels = [10.0 - i for i in range(count)]
        assert lms_weights(levels, levels[-1] - 1) == pytest.approx([-w for w in weights], abs=1e-12)


def test_two_uneven_levels_by_hand():
    # The line through (4, e1) and (2, e0), from 2 to 1: at its middle, 1.5, it is 1.25 e0 - 0.25 e1; times -1.
    assert lms_weights([4.0, 2.0], 1.0) == pytest.approx([0.25, -1.25], abs=1e-12)


def test_a_step_by_hand():
    directions = [one(3), one(2)]
    assert lms_step(one(10), directions, [0.25, -1.25], ve(2), ve(1)).item() == 10 + 0.75 - 2.5
    # Between VP levels: divided by 0.6 first, and times 0.8 at the end.
    assert lms_step(one(6), directions, [0.25, -1.25], vp(0.36), vp(0.64)).item() == pytest.approx(
        0.8 * (10 + 0.75 - 2.5), abs=1e-12
    )


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_polynomial_direction_is_followed_exactly_once_enough_is_remembered(order):
    r"""dy/dsigma = sigma^(order - 1), so y falls by (sigma^order - sigma'^order) / order."""
    sigmas = [14.6, 9.0, 5.5, 2.0, 1.1, 0.3]
    levels = [*(ve(s, 6 - i) for i, s in enumerate(sigmas)), CLEAN]
    denoise = lambda x, level: (x, torch.full_like(x, level.sigma ** (order - 1)))  # noqa: E731
    *_, step, _ = sample(lambda *args: lms(*args, order=order), denoise, one(1), levels, silent)
    fell = step.x_t - step.x_prev
    assert fell.item() == pytest.approx((1.1**order - 0.3**order) / order, rel=1e-10)
    assert step.level.t == 2


def test_no_more_than_the_last_directions_are_remembered(draw):
    levels = [ve(s, s) for s in (4, 3, 2, 1, 0)]
    denoise = lambda x, level: (x, torch.full_like(x, 1e9 if level.t == 4 else 1.0))  # noqa: E731
    *_, last = sample(lambda *args: lms(*args, order=2), denoise, draw(3), levels, silent)
    # The third step remembers t = 3 and 2, the fourth 2 and 1: both fall by 1.
    torch.testing.assert_close(last.x_prev, last.x_t - 1, rtol=1e-12, atol=1e-3)


def test_the_step_from_pure_noise_is_eulers_and_the_next_one_starts_anew(draw):
    x0, eps = draw(2, 3), draw(2, 3)
    levels = [vp(0.0, 999), vp(0.2, 500), vp(0.8, 100), CLEAN]
    first, second, _ = sample(lms, lambda x, level: (x0, eps), eps, levels, silent)
    torch.testing.assert_close(first.x_prev, levels[1].mix(x0, eps))
    torch.testing.assert_close(second.x_prev, levels[2].mix(x0, eps), rtol=0, atol=1e-12)
