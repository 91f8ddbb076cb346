r"""Euler ancestral."""

import math

import pytest
import torch

from ldm.diffusion.level import CLEAN
from ldm.diffusion.samplers.ddim import ddim_step
from ldm.diffusion.samplers.ddpm import posterior
from ldm.diffusion.samplers.euler_ancestral import down_and_up, euler_ancestral_step
from tests.diffusion.made import one, ve, vp

TIGHT = {"rtol": 0, "atol": 1e-12}


def test_a_step_by_hand():
    # From sigma 2 to 1: down = 1 * 1 / 2, up^2 = 1 - 0.25. x0 = 6, eps = 2: 6 + 0.5 * 2 + sqrt(0.75) * 1.
    step = euler_ancestral_step(one(6), one(2), ve(2), ve(1), one(1))
    assert step.item() == pytest.approx(7 + math.sqrt(0.75), abs=1e-12)


@pytest.mark.parametrize(("here", "there"), [(0.36, 0.64), (0.01, 0.9), (0.5, 0.51)])
def test_a_step_has_the_mean_and_variance_of_ddpms_and_is_ddims_with_eta_1(draw, here, there):
    here, there, x0, eps, z = vp(here), vp(there), draw(2, 3), draw(2, 3), draw(2, 3)
    mean, variance = posterior(here.mix(x0, eps), x0, here, there)
    step = euler_ancestral_step(x0, eps, here, there, torch.zeros_like(x0))
    torch.testing.assert_close(step, mean, **TIGHT)
    assert down_and_up(here, there)[1] ** 2 == pytest.approx(variance, abs=1e-12)
    noisy = euler_ancestral_step(x0, eps, here, there, z)
    torch.testing.assert_close(noisy, ddim_step(x0, eps, here, there, 1.0, z), **TIGHT)


def test_the_levels_are_k_diffusions():
    # sigma_up^2 = sigma'^2 (sigma^2 - sigma'^2) / sigma^2, in VE units.
    down, up = down_and_up(ve(5), ve(3))
    assert up**2 == pytest.approx(9 * (25 - 9) / 25, abs=1e-12)
    assert down**2 + up**2 == pytest.approx(9, abs=1e-12)


def test_the_step_to_a_clean_latent_adds_no_noise():
    assert down_and_up(vp(0.3), CLEAN) == (0, 0)


def test_from_pure_noise_all_of_the_noise_is_new():
    assert down_and_up(vp(0.0), vp(0.3)) == (0, vp(0.3).sigma)
