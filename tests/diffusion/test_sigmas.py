r"""Sigma schedules: noise levels that are picked by a formula."""

import numpy as np
import pytest

from ldm.config import NoiseConfig
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.sigmas import (
    SIGMA_SCHEDULES,
    exponential_sigmas,
    karras_sigmas,
    kl_optimal_sigmas,
    sigma_of,
    sigma_table,
    time_of,
)

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
PURE = make_alpha_bar(NoiseConfig(prediction="v", zero_snr=True)).double()


def test_stable_diffusions_sigmas_have_their_published_ends():
    table = sigma_table(ALPHA_BAR)
    assert (table[0], table[-1]) == pytest.approx((0.0291672, 14.6146), abs=1e-4)
    assert (np.diff(table) > 0).all()


def test_where_a_formula_needs_a_finite_sigma_pure_noise_has_4096():
    assert sigma_table(PURE)[-1] == pytest.approx(4096, rel=1e-12)


def test_karras_levels_by_hand():
    # From 128 = 2^7 to 1: the seventh roots are 2, 1.5 and 1, and 1.5^7 = 17.0859375. With rho 1 they are even.
    assert karras_sigmas(3, 1.0, 128.0) == pytest.approx([128, 17.0859375, 1], rel=1e-12)
    assert karras_sigmas(5, 1.0, 9.0, rho=1.0) == pytest.approx([9, 7, 5, 3, 1], rel=1e-12)
    assert karras_sigmas(1, 1.0, 128.0) == pytest.approx([128])


def test_the_time_of_a_level_is_read_in_logarithms():
    table = sigma_table(ALPHA_BAR)
    assert time_of(table, table) == pytest.approx(np.arange(1000), abs=1e-9)
    between = np.sqrt(table[3:4] * table[4:5])
    assert time_of(between, table) == pytest.approx([3.5], abs=1e-9)
    assert time_of(np.array([1e-5, 100.0]), table).tolist() == [0, 999]  # beyond the ends: the ends
    assert sigma_of(np.array([3.5]), table) == pytest.approx(between, rel=1e-12)


def test_exponential_levels_by_hand():
    # Halved at each step: evenly spaced logarithms.
    assert exponential_sigmas(4, 1.0, 8.0) == pytest.approx([8, 4, 2, 1], rel=1e-12)
    assert exponential_sigmas(1, 1.0, 8.0) == pytest.approx([8])


def test_kl_optimal_levels_by_hand():
    # The arctangents of sqrt(3), 1 and 1 / sqrt(3) are 60, 45 and 30 degrees.
    assert kl_optimal_sigmas(3, 1 / np.sqrt(3), np.sqrt(3)) == pytest.approx(
        [np.sqrt(3), 1, 1 / np.sqrt(3)], rel=1e-12
    )
    assert kl_optimal_sigmas(1, 0.1, 10.0) == pytest.approx([10])


# What ComfyUI answers for 8 steps of Stable Diffusion 1.
COMFYUI = {
    "karras": "14.6146 7.9029 4.0277 1.9104 0.8289 0.3211 0.1072 0.0292",
    "exponential": "14.6146 6.013 2.474 1.0179 0.4188 0.1723 0.0709 0.0292",
    "kl_optimal": "14.6146 3.4935 1.8781 1.1879 0.777 0.4832 0.2443 0.0292",
    "sgm_uniform": "14.6146 7.302 4.0861 2.496 1.6156 1.0712 0.6952 0.3997",
}


@pytest.mark.parametrize("name", SIGMA_SCHEDULES)
def test_eight_steps_of_stable_diffusion_are_comfyuis(name):
    sigmas = SIGMA_SCHEDULES[name](8, sigma_table(ALPHA_BAR))
    assert sigmas == pytest.approx([float(sigma) for sigma in COMFYUI[name].split()], abs=6e-5)


@pytest.mark.parametrize("name", SIGMA_SCHEDULES)
@pytest.mark.parametrize("count", [1, 2, 50])
def test_sigmas_fall_from_the_largest(name, count):
    table = sigma_table(ALPHA_BAR)
    sigmas = SIGMA_SCHEDULES[name](count, table)
    assert len(sigmas) == count and sigmas[0] == pytest.approx(table[-1], rel=1e-12)
    assert (np.diff(sigmas) < 0).all() and sigmas[-1] >= table[0] * (1 - 1e-9)
