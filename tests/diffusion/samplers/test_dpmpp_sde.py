r"""DPM++ SDE. Its order of convergence is measured in test_dpmpp_2m_sde.py."""

import math

import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import CLEAN, Level, flow_levels, vp_level_of
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.samplers.dpmpp_sde import dpmpp_sde, halfway
from ldm.diffusion.samplers.euler_ancestral import euler_ancestral_step
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.sigmas import sigma_table, time_of
from ldm.diffusion.spacing import sampler_levels
from ldm.errors import LdmError
from tests.diffusion.made import wave

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
LEVELS = sampler_levels(SAMPLERS["dpmpp_sde"], 4, ALPHA_BAR)


def test_halfway_is_the_geometric_mean_at_its_own_timestep():
    middle, table = halfway(LEVELS[0], LEVELS[1]), sigma_table(ALPHA_BAR)
    assert middle.ve_sigma == pytest.approx(math.sqrt(LEVELS[0].ve_sigma * LEVELS[1].ve_sigma), rel=1e-12)
    assert middle.t == pytest.approx(time_of(np.array([middle.ve_sigma]), table)[0], abs=1e-9)
    # Not the mean of the two timesteps: the logarithm of sigma is no straight line in t.
    assert abs(middle.t - (LEVELS[0].t + LEVELS[1].t) / 2) > 10


def test_halfway_in_a_flow_and_without_a_schedule():
    # Ratios 3 and 1/3: the middle is 1, at t = 1/2.
    levels = flow_levels(4)
    assert (halfway(levels[1], levels[3]).t, halfway(levels[1], levels[3]).alpha) == (0.5, 0.5)
    with pytest.raises(LdmError, match="the level at t = 999 has no schedule; expected levels as from"):
        halfway(Level(999, 0.1, 0.9), CLEAN)


def test_the_second_evaluation_is_at_the_end_of_a_noisy_half_step(draw):
    x, z, asked = draw(2, 3), {}, []

    def noise_fn(level, next_level):
        z[level, next_level] = draw(2, 3)
        return z[level, next_level]

    def denoise(x_t, level):
        asked.append((x_t, level))
        return wave(x_t, level)

    [first, *_] = list(sample(dpmpp_sde, denoise, x, LEVELS, noise_fn))
    here, there = LEVELS[:2]
    middle = halfway(here, there)
    x_mid = euler_ancestral_step(*wave(x, here), here, middle, z[here, middle])
    torch.testing.assert_close(asked[1][0], x_mid, rtol=0, atol=1e-12)
    assert asked[1][1] == middle and len(asked) == 2 * 4 - 1
    x0, _ = wave(x_mid, middle)
    eps = (x - here.alpha * x0) / here.sigma
    expected = euler_ancestral_step(x0, eps, here, there, z[here, there])
    torch.testing.assert_close(first.x_prev, expected, rtol=0, atol=1e-12)


def test_hand_made_levels_need_a_schedule(draw):
    levels = [vp_level_of(0, 3.0), vp_level_of(0, 1.0), CLEAN]
    with pytest.raises(LdmError, match="has no schedule"):
        list(sample(dpmpp_sde, wave, draw(2, 3), levels, lambda *_: draw(2, 3)))
