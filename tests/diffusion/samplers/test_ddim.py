r"""DDIM: its step, and what whole runs arrive at."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from jaxtyping import TypeCheckError

from ldm.config import NoiseConfig
from ldm.diffusion.level import vp_level
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers.ddim import ddim, ddim_sigma, ddim_step
from ldm.diffusion.samplers.ddpm import posterior
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import spaced_timesteps
from ldm.errors import LdmError
from tests.diffusion.made import gaussian, one, perfect, silent, vp, wave

TIGHT = {"rtol": 0, "atol": 1e-12}
ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()


def levels(times):
    r"""The levels of these timesteps, and that of t = 0 at the end."""
    return [vp_level(t, ALPHA_BAR) for t in (*times, 0)]


def test_a_step_without_noise_by_hand():
    # To alpha_bar 0.64: 0.8 of the image and 0.6 of the noise. 0.8 * 1 + 0.6 * 2 = 2.
    assert ddim_step(one(1), one(2), vp(0.36), vp(0.64)).item() == pytest.approx(2, abs=1e-12)


def test_a_step_with_eta_1_by_hand():
    r"""sigma^2 = 0.36 / 0.64 * (1 - 0.36 / 0.64) = 0.24609375; 0.36 - 0.24609375 = 0.11390625 = 0.3375^2.

    0.8 * 1 + 0.3375 * 2 + sqrt(0.24609375) * z = 1.475 + 0.4960784 z
    """
    still, moved = (ddim_step(one(1), one(2), vp(0.36), vp(0.64), 1.0, one(z)).item() for z in (0, 1))
    assert (still, moved) == pytest.approx((1.475, 1.475 + math.sqrt(0.24609375)), abs=1e-12)


@pytest.mark.parametrize(("here", "there"), [(0.36, 0.64), (0.01, 0.9), (0.5, 0.51)])
def test_with_eta_1_a_step_is_ddpms(draw, here, there):
    # Same mean and same variance, whatever the network estimates (its two estimates only need to fit x_t).
    here, there, x0, eps = vp(here), vp(there), draw(2, 3), draw(2, 3)
    mean, variance = posterior(here.mix(x0, eps), x0, here, there)
    torch.testing.assert_close(
        ddim_step(x0, eps, here, there, 1.0, torch.zeros_like(x0)), mean, rtol=0, atol=1e-11
    )
    assert ddim_sigma(here, there, 1.0) ** 2 == pytest.approx(variance, abs=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_a_step_keeps_the_marginal_whatever_eta_is(eta):
    r"""x' must have variance sigma'^2 about its mean: the squared weights of eps and z add up."""
    of_eps, of_z, of_x0 = (
        ddim_step(one(x0), one(eps), vp(0.3), vp(0.7), eta, one(z)).item()
        for x0, eps, z in ((0, 1, 0), (0, 0, 1), (1, 0, 0))
    )
    assert of_eps**2 + of_z**2 == pytest.approx(0.3, abs=1e-12)
    assert of_x0 == pytest.approx(math.sqrt(0.7), abs=1e-12)


def test_sigma_is_proportional_to_eta():
    full, half, none = (ddim_sigma(vp(0.3), vp(0.7), eta) for eta in (1.0, 0.5, 0.0))
    assert none == 0 and half == pytest.approx(full / 2, abs=1e-12)


def test_between_levels_that_differ_by_rounding_no_noise_is_added():
    # The next level keeps 1.0000000000000002 of the noise, whose square is not to be taken from 1.
    here = vp(0.3)
    assert ddim_sigma(here, replace(here, alpha=math.nextafter(here.alpha, 0)), 1.0) == 0


def test_a_step_to_where_we_are_changes_nothing(draw):
    x0, eps, level = draw(2, 3), draw(2, 3), vp(0.4)
    torch.testing.assert_close(ddim_step(x0, eps, level, level), level.mix(x0, eps), **TIGHT)
    assert ddim_sigma(level, level, 1.0) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("there", [0.0002, 0.3, 0.99915, 1.0])
def test_from_pure_noise_eta_1_draws_all_of_its_noise_anew(there):
    # Rounding must not leave less than nothing for the old one.
    assert ddim_step(one(0), one(1), vp(0.0), vp(there), 1.0, one(0)).item() == pytest.approx(0, abs=1e-7)
    assert ddim_sigma(vp(0.0), vp(there), 1.0) == vp(there).sigma


@pytest.mark.parametrize("eta", [-0.1, 1.5])
def test_an_eta_out_of_range_is_an_error(eta):
    with pytest.raises(LdmError):
        ddim_step(one(1), one(1), vp(0.3), vp(0.7), eta, one(0))


def test_an_eta_without_noise_is_an_error():
    with pytest.raises(LdmError):
        ddim_step(one(1), one(1), vp(0.3), vp(0.7), 0.5)


def test_with_eta_zero_sampling_is_deterministic_and_draws_no_noise(draw):
    x, path = draw(2, 4, 3, 5), levels(spaced_timesteps(7, 1000))
    runs = [[step.x_prev for step in sample(ddim, wave, x, path, silent)] for _ in range(2)]
    assert len(runs[0]) == 7 and all(torch.equal(a, b) for a, b in zip(*runs))


def test_with_eta_above_zero_every_step_draws_noise(draw):
    calls = []

    def noise_fn():
        calls.append(1)
        return torch.zeros(2, 3, dtype=torch.float64)

    list(sample(partial(ddim, eta=0.5), wave, draw(2, 3), levels(spaced_timesteps(7, 1000)), noise_fn))
    assert len(calls) == 7


def test_one_step_of_a_run_is_the_step_by_the_formula(draw):
    x, path = draw(2, 3), levels([951, 901])
    [first, *_] = sample(ddim, wave, x, path, silent)
    x0, eps = wave(x, path[0])
    a, s = ALPHA_BAR[901].sqrt(), (1 - ALPHA_BAR[901]).sqrt()
    torch.testing.assert_close((first.x0, first.x_prev), (x0, a * x0 + s * eps), **TIGHT)


@pytest.mark.parametrize("count", [1, 7, 20])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_a_perfect_predictor_leads_straight_to_the_image(draw, count, spacing):
    # Every estimate is the image; what is left at the end is a touch (alpha_bar_0) of the initial noise.
    x0, eps = draw(2, 4, 3, 5), draw(2, 4, 3, 5)
    path = levels(spaced_timesteps(count, 1000, spacing))
    steps = list(sample(ddim, perfect(x0), path[0].mix(x0, eps), path, silent))
    torch.testing.assert_close(steps[-1].x0, x0, **TIGHT)
    torch.testing.assert_close(steps[-1].x_prev, path[-1].mix(x0, eps), rtol=0, atol=1e-10)


def run_on_a_gaussian(mean, std, count):
    r"""Mean and variance of DDIM's samples if the data are N(mean, std^2) and the network is perfect; exact,
    for the result is affine in the starting noise: runs from 0 and from 1 show offset and slope."""
    start = torch.tensor([0.0, 1.0], dtype=torch.float64)
    path = levels(spaced_timesteps(count, 1000, "trailing"))
    [*_, last] = sample(ddim, gaussian(mean, std), start, path, silent)
    return last.x_prev[0].item(), (last.x_prev[1] - last.x_prev[0]).item() ** 2


def test_samples_of_a_gaussian_have_its_mean_and_variance():
    # Less noise is left at the end than 1 - alpha_bar_0 = 0.00085.
    mean, variance = run_on_a_gaussian(0.8, 0.5, 1000)
    assert mean == pytest.approx(0.8, abs=0.04) and variance == pytest.approx(0.25, abs=0.01)


def test_more_steps_come_closer():
    errors = [abs(run_on_a_gaussian(0.0, 0.5, count)[1] - 0.25) for count in (5, 20, 100)]
    assert errors[0] > errors[1] > errors[2]


def test_a_latent_that_does_not_fit_its_noise_is_an_error(draw):
    with pytest.raises(TypeCheckError):  # the test run checks the shapes in signatures
        list(sample(partial(ddim, eta=1.0), wave, draw(2, 3), levels([951]), partial(draw, 2, 4)))
