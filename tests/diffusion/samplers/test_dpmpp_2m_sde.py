r"""DPM++ 2M SDE."""

import math

import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.brownian import with_paths
from ldm.diffusion.level import CLEAN, vp_level_of
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.samplers.ddpm import ddpm_step
from ldm.diffusion.samplers.dpmpp_2m import dpmpp_2m_step
from ldm.diffusion.samplers.dpmpp_2m_sde import dpmpp_2m_sde_step
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.sigmas import karras_sigmas
from ldm.diffusion.spacing import sampler_levels, vp_schedule
from ldm.errors import LdmError
from tests.diffusion.made import gaussian, one, perfect, vp

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
TIGHT = {"rtol": 0, "atol": 1e-12}
MEAN, STD, HIGH, LOW = 0.8, 0.5, 10.0, 0.1
SDE = ("dpmpp_2m_sde", "dpmpp_sde")


def test_a_step_by_hand():
    r"""alpha / sigma from 1/2 to 1: alpha_bar 1/5 and 1/2, h = log 2, sigma' / sigma = sqrt(0.5 / 0.8).

    sqrt(0.625) / 2 * 10 + sqrt(0.5) * (1 - 1/4) * 4 + sqrt(0.5) * sqrt(3/4) * 2
    """
    step = dpmpp_2m_sde_step(one(10), one(4), vp(1 / 5), vp(1 / 2), one(2))
    expected = math.sqrt(0.625) * 5 + math.sqrt(0.5) * 3 + math.sqrt(0.375) * 2
    assert step.item() == pytest.approx(expected, abs=1e-12)


def test_a_step_is_ddpms_and_without_noise_that_of_dpmpp_2m(draw):
    x, x0, z, levels = draw(2, 3), draw(2, 3), draw(2, 3), (vp(0.1), vp(0.3), vp(0.7))
    step = dpmpp_2m_sde_step(x, x0, levels[1], levels[2], z)
    torch.testing.assert_close(step, ddpm_step(x, x0, levels[1], levels[2], z), **TIGHT)
    silent = dpmpp_2m_sde_step(x, x0, levels[1], levels[2], z, eta=0.0)
    torch.testing.assert_close(silent, dpmpp_2m_step(x, x0, x0, *levels), **TIGHT)


def test_without_noise_a_whole_run_is_that_of_dpmpp_2m(draw):
    levels, x = sampler_levels(SAMPLERS["dpmpp_2m"], 7, ALPHA_BAR), draw(2, 3)
    noisy = SAMPLERS["dpmpp_2m_sde"].with_eta(0.0)
    runs = [
        [step.x_prev for step in sample(update, gaussian(MEAN, STD), x, levels, lambda *_: draw(2, 3))]
        for update in (noisy, SAMPLERS["dpmpp_2m"].update)
    ]
    torch.testing.assert_close(*runs, **TIGHT)


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_an_eta_that_makes_no_sense_is_an_error(eta):
    with pytest.raises(LdmError, match=f"eta is {eta}; expected 0"):
        dpmpp_2m_sde_step(one(1), one(1), vp(0.1), vp(0.2), one(1), eta)


# --- both SDE samplers ---------------------------------------------------------------------------------------


def sde_levels(count):
    levels = [vp_level_of(0, s) for s in karras_sigmas(count + 1, LOW, HIGH).tolist()]
    return vp_schedule(ALPHA_BAR).attached_to(levels)


def independent_pieces(levels, places):
    r"""A Brownian path as a function of two levels, in coordinates: its increments between `places`, one a row."""
    times = [math.exp(2 * place) for place in places]

    def point(level):
        b = torch.zeros(2 + len(places), 1, dtype=torch.float64)
        for j, (u, u_next) in enumerate(zip(times, times[1:])):
            if u_next <= math.exp(2 * level.half_log_snr) * (1 + 1e-9):
                b[2 + j] = math.sqrt(u_next - u)
        return b

    def noise_fn(level, next_level):
        if not next_level.sigma:
            return point(levels[0])
        length = math.exp(2 * next_level.half_log_snr) - math.exp(2 * level.half_log_snr)
        return (point(next_level) - point(level)) / math.sqrt(length)

    return noise_fn


def variance_error(name, count):
    r"""How far the variance after `count` steps is from the true one, if the data are N(mean, std^2).

    The result is affine in the start and in all noise, so a run with one of them at 1 shows its part.
    """
    levels = sde_levels(count)
    ends = [level.half_log_snr for level in levels]
    places = sorted([*ends, *((a + b) / 2 for a, b in zip(ends, ends[1:]))])
    x = torch.zeros(2 + len(places), 1, dtype=torch.float64)
    x[1] = 1
    noise_fn = independent_pieces(levels, places)
    steps = list(sample(SAMPLERS[name].update, gaussian(MEAN, STD), x, [*levels, CLEAN], noise_fn))
    parts = steps[count - 1].x_prev[:, 0]
    parts = parts[1:] - parts[0]
    first, last = ((level.alpha * STD) ** 2 + level.sigma**2 for level in (levels[0], levels[-1]))
    return abs(parts[0].item() ** 2 * first + parts[1:].pow(2).sum().item() - last)


@pytest.mark.parametrize("name", SDE)
def test_twice_the_steps_leave_a_quarter_of_the_error_in_the_distribution(name):
    assert math.log2(variance_error(name, 30) / variance_error(name, 60)) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("name", SDE)
def test_with_a_perfect_network_any_number_of_steps_leads_to_the_same_latent(name, draw):
    # Then the SDE is its noise alone, and every step is exact.
    x0, ends = draw(1, 2, 3), []
    for count in (2, 6):
        levels = sde_levels(count)
        noise_fn = with_paths(lambda: None, [5], (2, 3), torch.float64, "cpu")
        start = levels[0].mix(x0, torch.ones_like(x0))
        *_, before, _ = sample(SAMPLERS[name].update, perfect(x0), start, [*levels, CLEAN], noise_fn)
        ends.append(before.x_prev)
    torch.testing.assert_close(*ends, rtol=0, atol=1e-4)  # the points of a path are not infinitely dense
    assert not torch.allclose(ends[0], x0, atol=1e-2)


@pytest.mark.parametrize("name", SDE)
def test_with_more_steps_an_image_converges(name):
    ends = {}
    for count in (4, 8, 32):
        levels = sde_levels(count)
        noise_fn = with_paths(lambda: None, [6], (50,), torch.float64, "cpu")
        start = levels[0].alpha * torch.full((1, 50), 7.0, dtype=torch.float64)
        *_, before, _ = sample(SAMPLERS[name].update, gaussian(MEAN, STD), start, [*levels, CLEAN], noise_fn)
        ends[count] = before.x_prev
    far = [(ends[count] - ends[32]).norm().item() for count in (4, 8)]
    assert far[0] > 1.4 * far[1]
