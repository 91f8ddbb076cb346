r"""Heun's method."""

import pytest
import torch

from ldm.diffusion.level import CLEAN
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers.heun import heun, heun_step
from tests.diffusion.made import one, silent, ve, vp, wave


def test_a_step_by_hand():
    # From sigma 3 to 1, two units down along the mean of 2 and 4: 10 - 2 * 3 = 4.
    assert heun_step(one(10), one(2), one(4), ve(3), ve(1)).item() == 4


def test_a_step_between_vp_levels_by_hand():
    # alpha 0.6 to 0.8, sigma 0.8 to 0.6: the factor 4/3; 4/3 * 6 + (0.6 - 4/3 * 0.8) * 3 = 8 - 1.4 = 6.6.
    assert heun_step(one(6), one(2), one(4), vp(0.36), vp(0.64)).item() == pytest.approx(6.6, abs=1e-12)


def test_if_both_directions_agree_a_step_is_eulers(draw):
    x0, eps, here, there = draw(2, 3), draw(2, 3), vp(0.3), vp(0.7)
    step = heun_step(here.mix(x0, eps), eps, eps, here, there)
    torch.testing.assert_close(step, there.mix(x0, eps), rtol=0, atol=1e-12)


def test_there_are_two_evaluations_a_step_but_one_in_the_last(draw):
    evaluated = []

    def denoise(x, level):
        evaluated.append((level.t, level.sigma))
        return x, torch.zeros_like(x)

    levels = [ve(3, 30), ve(2, 20), ve(1, 10), CLEAN]
    steps = list(sample(heun, denoise, draw(2, 3), levels, silent))
    assert evaluated == [(30, 3), (20, 2), (20, 2), (10, 1), (10, 1)]
    assert [step.level.t for step in steps] == [30, 20, 10]


def test_a_direction_that_turns_evenly_is_followed_exactly():
    # dy/dsigma = sigma, so y falls by (9 - 1) / 2 = 4 from sigma 3 to 1; Euler's step would fall by 6.
    denoise = lambda x, level: (x - level.sigma**2, torch.full_like(x, level.sigma))  # noqa: E731
    first = next(sample(heun, denoise, one(10), [ve(3), ve(1), CLEAN], silent))
    assert first.x_prev.item() == pytest.approx(6, abs=1e-12)


def test_the_step_from_pure_noise_is_eulers(draw):
    levels = [vp(0.0, 999), vp(0.2, 500), vp(0.8, 100), CLEAN]
    x0, eps = draw(2, 3), draw(2, 3)
    first = next(sample(heun, lambda x, level: (x0, eps), eps, levels, silent))
    torch.testing.assert_close(first.x_prev, levels[1].mix(x0, eps))
    assert wave(first.x_prev, levels[1])[0].isfinite().all()
