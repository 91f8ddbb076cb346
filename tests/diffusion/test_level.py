r"""Noise levels: VP, VE and rectified flow are values of one type."""

import math

import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import CLEAN, Level, circle_levels, flow_levels, vp_level, vp_level_of
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.schedule import add_noise, make_alpha_bar
from tests.diffusion.made import gaussian, one, silent, ve, vp

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()


def test_mixing_by_hand():
    # alpha_bar 0.64: 0.8 of the signal and 0.6 of the noise. 0.8 * 10 + 0.6 * 5 = 11.
    assert vp(0.64).mix(one(10), one(5)).item() == pytest.approx(11, abs=1e-12)


def test_a_level_is_a_value():
    level = Level(1, 0.8, 0.6)
    assert level == Level(1, 0.8, 0.6) and hash(level) == hash(Level(1, 0.8, 0.6))
    with pytest.raises(AttributeError):
        level.t = 2


def test_the_level_of_a_timestep_mixes_as_the_forward_process_does(draw):
    x0, eps = draw(2, 3), draw(2, 3)
    for t in (0, 500, 999):
        level = vp_level(t, ALPHA_BAR)
        assert level.t == t and level.alpha**2 + level.sigma**2 == pytest.approx(1, abs=1e-12)
        torch.testing.assert_close(level.mix(x0, eps), add_noise(x0, eps, ALPHA_BAR[t]), rtol=0, atol=1e-12)


def test_a_level_has_the_precision_of_its_schedule():
    # So that float32 latents are scaled by the very numbers that float32 arithmetic gives.
    table = make_alpha_bar(NoiseConfig())
    level = vp_level(700, table)
    assert level.alpha == table[700].sqrt().item() and level.sigma == (1 - table[700]).sqrt().item()


def test_the_ve_form_by_hand():
    # alpha_bar 0.64: sigma / alpha = 0.6 / 0.8 = 0.75, and 11 / 0.8 = 13.75 = 10 + 0.75 * 5.
    assert vp(0.64).ve_sigma == pytest.approx(0.75, abs=1e-12)
    assert ve(0.75).mix(one(10), one(5)).item() == pytest.approx(13.75, abs=1e-12)


@pytest.mark.parametrize("sigma", [0.0, 0.03, 0.75, 14.6, 4096.0])
def test_a_vp_level_is_found_by_its_ve_sigma(sigma):
    level = vp_level_of(1.5, sigma)
    assert level.t == 1.5 and level.ve_sigma == pytest.approx(sigma, rel=1e-12)
    assert level.alpha**2 + level.sigma**2 == pytest.approx(1, abs=1e-12)


def test_half_log_snr_by_hand():
    # alpha_bar 0.8: alpha / sigma = sqrt(0.8 / 0.2) = 2. As much noise as signal: 0.
    assert vp(0.8).half_log_snr == pytest.approx(math.log(2), abs=1e-12)
    assert vp(0.5).half_log_snr == pytest.approx(0, abs=1e-12)


def test_pure_noise_and_a_clean_latent_are_the_two_ends():
    noise = Level(999, 0.0, 1.0)
    assert (noise.half_log_snr, CLEAN.half_log_snr) == (-math.inf, math.inf)
    assert (noise.ve_sigma, CLEAN.ve_sigma) == (math.inf, 0.0)
    x0, eps = one(3), one(5)
    assert noise.mix(x0, eps).item() == 5 and CLEAN.mix(x0, eps).item() == 3


def test_a_rectified_flow_goes_straight_from_noise_to_data():
    levels = flow_levels(4)
    assert [(level.t, level.alpha, level.sigma) for level in levels] == [
        (1.0, 0.0, 1.0),
        (0.75, 0.25, 0.75),
        (0.5, 0.5, 0.5),
        (0.25, 0.75, 0.25),
        (0.0, 1.0, 0.0),
    ]


@pytest.mark.parametrize("name", ["euler", "ddim", "heun", "dpmpp_2m"])
@pytest.mark.parametrize(("mean", "std"), [(0.8, 0.5), (-1.0, 2.0)])
def test_a_rectified_flow_through_the_same_samplers_gives_the_gaussian_it_should(name, mean, std):
    r"""With the exact estimate for data N(mean, std^2), noise z must arrive at mean + std z.

    The result is affine in z: runs from 0 and 1 show both numbers.
    """
    start = torch.tensor([0.0, 1.0], dtype=torch.float64)
    *_, last = sample(SAMPLERS[name].update, gaussian(mean, std), start, flow_levels(200), silent)
    low, high = last.x_prev.tolist()
    tolerance = 0.02 if name in ("euler", "ddim") else 2e-3
    assert (low, high - low) == (pytest.approx(mean, abs=tolerance), pytest.approx(std, abs=tolerance))


def test_one_euler_step_of_a_flow_is_a_step_along_its_velocity(draw):
    # x' = x + (sigma' - sigma) u with the velocity u = eps - x0 (Liu et al. 2023).
    here, there = Level(0.75, 0.25, 0.75), Level(0.25, 0.75, 0.25)
    x0, eps = draw(2, 3), draw(2, 3)
    x = here.mix(x0, eps)
    [step] = sample(SAMPLERS["euler"].update, lambda x, level: (x0, eps), x, [here, there], silent)
    torch.testing.assert_close(step.x_prev, x - 0.5 * (eps - x0), rtol=0, atol=1e-12)


def test_a_quarter_circle_begins_at_pure_noise_and_ends_clean_and_keeps_the_variance():
    levels = circle_levels(6)
    assert (levels[0], levels[-1]) == (Level(1, 0.0, 1.0), Level(0, 1.0, 0.0))
    assert levels[4].alpha == pytest.approx(math.sqrt(0.75), abs=1e-15)  # 30 degrees
    assert all(level.alpha**2 + level.sigma**2 == pytest.approx(1, abs=1e-15) for level in levels)


def test_a_level_of_the_quarter_circle_is_found_by_its_time_and_by_its_ratio():
    levels = circle_levels(6)
    schedule = levels[2].schedule
    assert schedule.at_time(levels[2].t) == levels[2]
    found = schedule.at_ratio(levels[2].ve_sigma)
    assert (found.t, found.alpha, found.sigma) == pytest.approx((2 / 3, 0.5, math.sqrt(0.75)), abs=1e-14)
