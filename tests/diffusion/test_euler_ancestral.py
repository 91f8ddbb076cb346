r"""Euler ancestral."""

import math

import pytest
import torch

from ldm.diffusion.ddpm import posterior
from ldm.diffusion.euler_ancestral import down_and_up, euler_ancestral_step
from ldm.diffusion.schedule import add_noise
from ldm.diffusion.sigmas import faded, piled, sigma_of

TIGHT = {"rtol": 0, "atol": 1e-12}


def number(x):
    return torch.tensor(float(x), dtype=torch.float64)


def test_a_step_by_hand():
    # From sigma 2 to 1: up^2 = 1 * (4 - 1) / 4 = 0.75, down = 0.5. 10 + (0.5 - 2) * 2 + sqrt(0.75) * 1.
    step = euler_ancestral_step(number(10)[None], number(2)[None], number(2), number(1), number(1)[None])
    assert step.item() == pytest.approx(7 + math.sqrt(0.75), abs=1e-12)


@pytest.mark.parametrize(("level", "previous"), [(0.36, 0.64), (0.01, 0.9), (0.5, 0.51)])
def test_a_step_has_the_mean_and_variance_of_ddpms(draw, level, previous):
    level, previous, x0, eps = number(level), number(previous), draw(2, 3), draw(2, 3)
    x_t, sigmas = add_noise(x0, eps, level), (sigma_of(level), sigma_of(previous))
    mean, variance = posterior(x_t, x0, level, previous)
    step = euler_ancestral_step(piled(x_t, level), eps, *sigmas, torch.zeros_like(x0))
    torch.testing.assert_close(faded(step, previous), mean, **TIGHT)
    torch.testing.assert_close(previous * down_and_up(*sigmas)[1] ** 2, variance, **TIGHT)


def test_the_two_noises_add_up_to_the_new_level():
    down, up = down_and_up(number(5), number(3))
    assert (down**2 + up**2).item() == pytest.approx(9, abs=1e-12)


def test_the_step_to_0_adds_no_noise():
    assert [part.item() for part in down_and_up(number(5), number(0))] == [0, 0]
