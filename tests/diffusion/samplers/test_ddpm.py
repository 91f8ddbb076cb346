r"""DDPM: the posterior, its step, and what whole runs arrive at."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import CLEAN, flow_levels, vp_level
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers.ddpm import ddpm, ddpm_step, posterior, step_variance
from ldm.diffusion.schedule import make_alpha_bar, make_betas
from ldm.diffusion.spacing import spaced_timesteps
from ldm.errors import LdmError
from tests.diffusion.made import gaussian, one, vp

TIGHT = {"rtol": 0, "atol": 1e-12}


def test_the_posterior_by_hand():
    r"""From alpha_bar 0.36 to 0.64: beta = 1 - 0.36 / 0.64 = 0.4375; 1 - 0.36 = 0.64. With x0 = 1, x_t = 2:

    0.8 * 0.4375 / 0.64 * 1 + 0.75 * 0.36 / 0.64 * 2 = 0.546875 + 0.84375 = 1.390625
    and the variance is 0.36 / 0.64 * 0.4375 = 0.24609375.
    """
    mean, variance = posterior(one(2), one(1), vp(0.36), vp(0.64))
    assert (mean.item(), variance) == pytest.approx((1.390625, 0.24609375), abs=1e-12)


@pytest.mark.parametrize(
    ("x_t", "x0", "level", "previous"),
    [(2.0, 1.0, 0.36, 0.64), (-0.4, 0.9, 0.05, 0.7), (1.1, -1.0, 0.9, 0.99)],
)
def test_the_posterior_is_bayes_rule(x_t, x0, level, previous):
    r"""q(x' | x_t, x0) is proportional to q(x_t | x') q(x' | x0): two Gaussians, multiplied on a grid."""
    x = np.linspace(-12, 12, 400_001)
    ratio = level / previous
    log_prior = -((x - math.sqrt(previous) * x0) ** 2) / (2 * (1 - previous))
    log_likelihood = -((x_t - math.sqrt(ratio) * x) ** 2) / (2 * (1 - ratio))
    p = np.exp(log_prior + log_likelihood)
    p /= p.sum()
    mean = (p * x).sum()
    found = posterior(one(x_t), one(x0), vp(level), vp(previous))
    assert found[0].item() == pytest.approx(mean, abs=1e-9)
    assert found[1] == pytest.approx((p * (x - mean) ** 2).sum(), abs=1e-9)


def test_a_step_back_from_a_sample_of_x_t_is_a_sample_of_the_level_below():
    r"""x_t has mean alpha x0 and variance sigma^2. The posterior's mean is linear in it, with some slope; so the
    step back has mean posterior(alpha x0) and variance slope^2 sigma^2 + posterior variance: these must be alpha' x0
    and sigma'^2.
    """
    for level, next_level in ((vp(0.3), vp(0.7)), (vp(0.0), vp(0.2)), flow_levels(4)[1:3]):
        mean, variance = posterior(level.alpha * one(1.7), one(1.7), level, next_level)
        slope = posterior(one(1), one(0), level, next_level)[0].item()
        torch.testing.assert_close(mean, next_level.alpha * one(1.7), **TIGHT)
        assert slope**2 * level.sigma**2 + variance == pytest.approx(next_level.sigma**2, abs=1e-12)


def test_neighbouring_steps_have_the_betas_of_the_schedule():
    r"""For t' = t - 1, in the form of Ho et al. 2020, eq. 7, with beta_t from the schedule itself."""
    betas, alpha_bar = make_betas(NoiseConfig()).double(), make_alpha_bar(NoiseConfig()).double()
    for t in (1, 500, 999):
        beta, a, a_next = (x.item() for x in (betas[t], alpha_bar[t], alpha_bar[t - 1]))
        _, variance = posterior(one(1), one(1), vp(a), vp(a_next))
        assert variance == pytest.approx((1 - a_next) / (1 - a) * beta, rel=1e-4, abs=0)
        assert step_variance(vp(a), vp(a_next)) == pytest.approx(beta, rel=1e-4, abs=0)


@pytest.mark.parametrize(("variance", "expected"), [("fixed_small", 0.24609375), ("fixed_large", 0.4375)])
def test_the_noise_that_a_step_adds_has_the_chosen_variance(variance, expected):
    steps = [ddpm_step(one(2), one(1), vp(0.36), vp(0.64), one(z), variance).item() for z in (0, 1)]
    assert steps[0] == pytest.approx(1.390625, abs=1e-12)  # the posterior's mean
    assert (steps[1] - steps[0]) ** 2 == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_the_step_to_the_end_is_the_guess_itself(variance):
    # At a clean level: beta / sigma^2 = 1, so the mean is x0, and no noise is added.
    out = ddpm_step(one(2), one(1), vp(0.36), CLEAN, one(50), variance)
    assert out.item() == pytest.approx(1, abs=1e-12)


def run_on_a_gaussian(mean, std, variance, steps=1000):
    r"""Exact mean and variance of DDPM's samples if images are N(mean, std^2) and the network is perfect.

    The perfect estimate is affine in x_t. So the result is affine in the starting noise and in the noise of each step;
    a batch that sets each of them to 1 in turn (row 0: none) reads off its coefficients. No random number is drawn.
    """
    alpha_bar = make_alpha_bar(NoiseConfig()).double()
    rows = iter(torch.eye(steps + 2, dtype=torch.float64)[1:])
    levels = [vp_level(t, alpha_bar) for t in spaced_timesteps(steps, 1000, "leading_from_0")]
    update = partial(ddpm, variance=variance)
    for step in sample(update, gaussian(mean, std), next(rows), [*levels, CLEAN], lambda: next(rows)):
        out = step.x_prev
    return out[0].item(), ((out[1:] - out[0]) ** 2).sum().item()


def test_if_there_is_only_one_image_the_small_variance_finds_it():
    mean, variance = run_on_a_gaussian(3.0, 0.0, "fixed_small")
    assert (mean, variance) == pytest.approx((3.0, 0.0), abs=1e-9)


def test_if_images_are_white_noise_the_large_variance_is_exact():
    # But for the last step, which adds none: beta_0 = 0.00085 is missing.
    mean, variance = run_on_a_gaussian(0.0, 1.0, "fixed_large")
    assert (mean, variance) == pytest.approx((0.0, 1 - 0.00085), abs=1e-6)


@pytest.mark.parametrize(("mean", "std"), [(0.8, 0.5), (-1.0, 1.0)])
def test_with_many_steps_samples_have_the_mean_and_variance_of_the_data(mean, std):
    r"""The truth lies between the two variances, and both are near it (`fixed_large` but for its last step,
    which leaves out a noise of variance beta_0 = 0.00085).

    The run starts from N(0, 1) rather than from the slightly different x_T of the data: the mean is off by a
    share sqrt(alpha_bar_999) = 0.07 of itself at the start, and hardly at all at the end.
    """
    small, large = (run_on_a_gaussian(mean, std, variance) for variance in ("fixed_small", "fixed_large"))
    assert small[0] == pytest.approx(mean, abs=0.01) and large[0] == pytest.approx(mean, abs=0.01)
    assert small[1] < std**2 < large[1] + 0.000851
    assert small[1] == pytest.approx(std**2, rel=0.03) and large[1] == pytest.approx(std**2, rel=0.03)


def test_fewer_steps_are_worse():
    errors = [abs(run_on_a_gaussian(0.0, 0.5, "fixed_small", n)[1] - 0.25) for n in (10, 50, 250)]
    assert errors[0] > errors[1] > errors[2]


def test_an_unknown_variance_is_an_error():
    with pytest.raises(LdmError, match="'learned'; expected 'fixed_small' or 'fixed_large'"):
        ddpm_step(one(1), one(1), vp(0.3), vp(0.6), one(0), "learned")
