r"""The forward process."""

import math

import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.schedule import (
    add_noise,
    make_alpha_bar,
    make_betas,
    zero_terminal_snr,
)
from ldm.errors import LdmError

SCHEDULES = ("linear", "scaled_linear", "cosine")
TIGHT = {"rtol": 0, "atol": 1e-12}


def test_a_linear_schedule_by_hand():
    # betas 0.1, 0.3, 0.5; what is left: 0.9, 0.9 * 0.7 = 0.63, 0.63 * 0.5 = 0.315
    config = NoiseConfig(3, "linear", 0.1, 0.5)
    torch.testing.assert_close(make_betas(config), torch.tensor([0.1, 0.3, 0.5]))
    torch.testing.assert_close(make_alpha_bar(config), torch.tensor([0.9, 0.63, 0.315]))


def test_a_scaled_linear_schedule_by_hand():
    # The roots 0.1, 0.2, 0.3 are evenly spaced. 0.99, 0.99 * 0.96 = 0.9504, 0.9504 * 0.91 = 0.864864
    config = NoiseConfig(3, "scaled_linear", 0.01, 0.09)
    torch.testing.assert_close(make_betas(config), torch.tensor([0.01, 0.04, 0.09]))
    torch.testing.assert_close(make_alpha_bar(config), torch.tensor([0.99, 0.9504, 0.864864]))


def test_the_cosine_schedule_follows_its_cosine_until_the_last_step():
    alpha_bar = make_alpha_bar(NoiseConfig(schedule="cosine")).double().numpy()
    f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(
        alpha_bar[:-1], f[1:-1] / f[0], rtol=1e-4, atol=0
    )  # float32, a thousand factors
    assert make_betas(NoiseConfig(schedule="cosine"))[-1].item() == pytest.approx(0.999)  # not 1


def test_stable_diffusions_schedule_has_its_published_values():
    alpha_bar = make_alpha_bar(NoiseConfig())
    assert alpha_bar[0].item() == pytest.approx(0.99915, abs=1e-7)  # 1 - 0.00085
    assert alpha_bar[500].item() == pytest.approx(0.2763327, rel=1e-6)  # a product of 501 float32 factors
    assert alpha_bar[999].item() == pytest.approx(0.0046600985, rel=1e-6)
    sigmas = ((1 - alpha_bar) / alpha_bar).sqrt()
    assert sigmas[0].item() == pytest.approx(0.0291672, abs=1e-6)
    assert sigmas[999].item() == pytest.approx(14.6146, abs=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_signal_falls_at_every_step_and_never_quite_vanishes(schedule):
    alpha_bar = make_alpha_bar(NoiseConfig(schedule=schedule))
    assert alpha_bar.shape == (1000,) and alpha_bar.dtype == torch.float32
    assert (alpha_bar.diff() < 0).all() and alpha_bar[0] < 1 and alpha_bar[-1] > 0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_one_step_at_a_time_leads_to_the_same_gaussian_as_all_in_one_go(schedule):
    r"""If x_t has mean m x0 and variance s, then sqrt(1 - b) x_t + sqrt(b) z has mean sqrt(1 - b) m x0 and
    variance (1 - b) s + b. From m = 1, s = 0 this must arrive at sqrt(alpha_bar) and 1 - alpha_bar."""
    betas = make_betas(NoiseConfig(schedule=schedule)).double().tolist()
    alpha_bar = make_alpha_bar(NoiseConfig(schedule=schedule)).double()
    mean, variance, path = 1.0, 0.0, []
    for beta in betas:
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        path.append((mean, variance))
    expected = torch.stack([alpha_bar.sqrt(), 1 - alpha_bar], dim=1)
    torch.testing.assert_close(torch.tensor(path, dtype=torch.float64), expected, rtol=0, atol=1e-6)


def test_a_schedule_bent_to_pure_noise_by_hand():
    r"""sqrt(alpha_bar) 0.8, 0.6, 0.4; less 0.4 and times 0.8 / 0.4: 0.8, 0.4, 0. So alpha_bar 0.64, 0.16, 0,
    and the betas 1 - 0.64, 1 - 0.16 / 0.64, 1."""
    betas = 1 - torch.tensor([0.64, 0.36 / 0.64, 0.16 / 0.36], dtype=torch.float64)
    expected = torch.tensor([0.36, 0.75, 1.0], dtype=torch.float64)
    torch.testing.assert_close(zero_terminal_snr(betas), expected, **TIGHT)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_with_zero_snr_the_last_step_is_noise_alone_and_the_first_is_what_it_was(schedule):
    usual = make_alpha_bar(NoiseConfig(schedule=schedule))
    bent = make_alpha_bar(NoiseConfig(schedule=schedule, prediction="v", zero_snr=True))
    assert bent[-1] == 0 and bent[0].item() == pytest.approx(usual[0].item(), abs=1e-6)
    assert (bent.diff() < 0).all() and (bent <= usual + 1e-6).all()


def test_zero_snr_with_eps_is_an_error():
    with pytest.raises(LdmError, match="zero_snr with prediction 'eps'.*expected 'v'"):
        make_alpha_bar(NoiseConfig(zero_snr=True))


def test_adding_noise_by_hand():
    # alpha_bar 0.64: 0.8 of the picture and 0.6 of the noise. 0.8 * 10 + 0.6 * 5 = 11.
    x0, eps = torch.full((1, 1, 2, 3), 10.0).double(), torch.full((1, 1, 2, 3), 5.0).double()
    out = add_noise(x0, eps, torch.tensor(0.64, dtype=torch.float64))
    torch.testing.assert_close(out, torch.full_like(x0, 11.0), **TIGHT)


@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (2, 7), (2,)])
def test_each_picture_of_a_batch_has_its_own_noise_level(draw, shape):
    x0, eps = draw(*shape), draw(*shape)
    out = add_noise(x0, eps, torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert torch.equal(out[0], x0[0]) and torch.equal(out[1], eps[1])  # all picture; all noise


def test_adding_noise_keeps_a_unit_variance(draw):
    # For x0 and eps of variance 1, alpha_bar + (1 - alpha_bar) = 1: exact in the coefficients.
    alpha_bar = torch.linspace(0, 1, 11, dtype=torch.float64)
    one, zero = torch.ones(11).double(), torch.zeros(11).double()
    of_picture, of_noise = add_noise(one, zero, alpha_bar), add_noise(zero, one, alpha_bar)
    torch.testing.assert_close(of_picture**2 + of_noise**2, one, **TIGHT)


def test_half_precision_does_not_lose_the_first_touch_of_noise(draw):
    # 0.99915 is 1 in bfloat16, and the noise of sqrt(0.00085) = 0.029 would be none.
    x0, eps, level = torch.zeros(1, 5).bfloat16(), draw(1, 5).bfloat16(), torch.tensor([0.99915])
    out = add_noise(x0, eps, level)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, (0.00085**0.5 * eps.double()).bfloat16(), rtol=0.01, atol=0)


def test_an_unknown_schedule_is_an_error():
    with pytest.raises(LdmError, match="'sigmoid'; expected 'scaled_linear'"):
        config = NoiseConfig()
        object.__setattr__(config, "schedule", "sigmoid")  # past the type check of the test run
        make_betas(config)
