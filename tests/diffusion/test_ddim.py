r"""DDIM: its stride, and what whole runs arrive at."""

import math
from functools import partial

import pytest
import torch
from jaxtyping import TypeCheckError

from ldm.config import NoiseConfig
from ldm.diffusion.ddim import ddim, ddim_sigma, ddim_step
from ldm.diffusion.ddpm import posterior
from ldm.diffusion.sampling import strides
from ldm.diffusion.schedule import add_noise, make_alpha_bar, spaced_timesteps

TIGHT = {"rtol": 0, "atol": 1e-12}
ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()


def number(x):
    return torch.tensor(float(x), dtype=torch.float64)


def one(x):
    return number(x)[None]


def silent():
    raise AssertionError("with eta 0 no noise is drawn")


def test_a_stride_without_noise_by_hand():
    # To alpha_bar 0.64: 0.8 of the picture and 0.6 of the noise. 0.8 * 1 + 0.6 * 2 = 2.
    assert ddim_step(one(1), one(2), number(0.36), number(0.64)).item() == pytest.approx(2, abs=1e-12)


def test_a_stride_with_eta_1_by_hand():
    r"""sigma^2 = 0.36 / 0.64 * (1 - 0.36 / 0.64) = 0.24609375; 0.36 - 0.24609375 = 0.11390625 = 0.3375^2.

    0.8 * 1 + 0.3375 * 2 + sqrt(0.24609375) * z = 1.475 + 0.4960784 z
    """
    level, previous = number(0.36), number(0.64)
    still = ddim_step(one(1), one(2), level, previous, 1.0, one(0)).item()
    moved = ddim_step(one(1), one(2), level, previous, 1.0, one(1)).item()
    assert (still, moved) == pytest.approx((1.475, 1.475 + math.sqrt(0.24609375)), abs=1e-12)


@pytest.mark.parametrize(("level", "previous"), [(0.36, 0.64), (0.01, 0.9), (0.5, 0.51)])
def test_with_eta_1_a_stride_is_ddpms(draw, level, previous):
    # Same mean and same variance, whatever the network guessed (its two guesses only need to fit x_t).
    level, previous, x0, eps = number(level), number(previous), draw(2, 3), draw(2, 3)
    mean, variance = posterior(add_noise(x0, eps, level), x0, level, previous)
    torch.testing.assert_close(
        ddim_step(x0, eps, level, previous, 1.0, torch.zeros_like(x0)), mean, rtol=0, atol=1e-11
    )
    torch.testing.assert_close(ddim_sigma(level, previous, 1.0) ** 2, variance, **TIGHT)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_a_stride_keeps_the_marginal_whatever_eta_is(eta):
    r"""x_t' must have variance 1 - alpha_bar_t' about its mean: the squared shares of eps and z add up."""
    level, previous = number(0.3), number(0.7)
    of_eps, of_z, of_x0 = (
        ddim_step(one(x0), one(eps), level, previous, eta, one(z)).item()
        for x0, eps, z in ((0, 1, 0), (0, 0, 1), (1, 0, 0))
    )
    assert of_eps**2 + of_z**2 == pytest.approx(0.3, abs=1e-12)
    assert of_x0 == pytest.approx(math.sqrt(0.7), abs=1e-12)


def test_sigma_is_proportional_to_eta():
    full, half, none = (ddim_sigma(number(0.3), number(0.7), eta).item() for eta in (1.0, 0.5, 0.0))
    assert none == 0 and half == pytest.approx(full / 2, abs=1e-12)


def test_a_stride_to_where_we_are_changes_nothing(draw):
    x0, eps, level = draw(2, 3), draw(2, 3), number(0.4)
    torch.testing.assert_close(ddim_step(x0, eps, level, level), add_noise(x0, eps, level), **TIGHT)


def path(times):
    return strides(times, ALPHA_BAR, ALPHA_BAR[0])


def wave(x, t, level):
    r"""Some smooth, wrong guess of the noise."""
    eps = torch.sin(3 * x + t)
    a, s = level.sqrt(), (1 - level).sqrt()
    return (x - s * eps) / a, eps


def test_with_eta_zero_sampling_is_deterministic_and_draws_no_noise(draw):
    x, times = draw(2, 4, 3, 5), path(spaced_timesteps(7, 1000, offset=1))
    runs = [[step.x_prev for step in ddim(wave, x, times, silent)] for _ in range(2)]
    assert len(runs[0]) == 7 and all(torch.equal(a, b) for a, b in zip(*runs))


def test_with_eta_above_zero_every_step_draws_noise(draw):
    calls = []

    def noise():
        calls.append(1)
        return torch.zeros(2, 3, dtype=torch.float64)

    list(ddim(wave, draw(2, 3), path(spaced_timesteps(7, 1000, offset=1)), noise, eta=0.5))
    assert len(calls) == 7


def test_one_step_of_a_run_is_the_stride_by_the_formula(draw):
    x = draw(2, 3)
    [first, *_] = ddim(wave, x, path([(951, 901), (901, 851)]), silent)
    x0, eps = wave(x, 951, ALPHA_BAR[951])
    a, s = ALPHA_BAR[901].sqrt(), (1 - ALPHA_BAR[901]).sqrt()
    torch.testing.assert_close((first.x0, first.x_prev), (x0, a * x0 + s * eps), **TIGHT)


@pytest.mark.parametrize("count", [1, 7, 20])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_a_perfect_predictor_leads_straight_to_the_picture(draw, count, spacing):
    # Every guess is the picture; what is left at the end is a touch (alpha_bar_0) of the noise begun with.
    x0, eps = draw(2, 4, 3, 5), draw(2, 4, 3, 5)
    times = spaced_timesteps(count, 1000, spacing, offset=1)

    def perfect(x, t, level):
        return x0, (x - level.sqrt() * x0) / (1 - level).sqrt()

    steps = list(ddim(perfect, add_noise(x0, eps, ALPHA_BAR[times[0][0]]), path(times), silent))
    torch.testing.assert_close(steps[-1].x0, x0, **TIGHT)
    # Where a stride misses the grid's next value (1000 / 7 is not whole), some other noise is left.
    strides_meet = all(previous == t for (_, previous), (t, _) in zip(times, times[1:]))
    assert strides_meet or spacing != "leading"
    if strides_meet:
        expected = add_noise(x0, eps, ALPHA_BAR[0])
        torch.testing.assert_close(steps[-1].x_prev, expected, rtol=0, atol=1e-10)


def run_on_a_gaussian(mean, std, count):
    r"""Mean and variance of DDIM's samples if the data are N(mean, std^2) and the network is perfect; exact,
    for the result is affine in the starting noise: runs from 0 and from 1 show offset and slope."""

    def denoise(x, t, level):
        a, v = level.sqrt(), std**2
        x0 = mean + v * a / (v * a**2 + 1 - a**2) * (x - a * mean)
        return x0, (x - a * x0) / (1 - a**2).sqrt()

    start = torch.tensor([0.0, 1.0], dtype=torch.float64)
    [*_, last] = ddim(denoise, start, path(spaced_timesteps(count, 1000)), silent)
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
        list(ddim(wave, draw(2, 3), path([(951, 901)]), partial(draw, 2, 4), eta=1.0))
