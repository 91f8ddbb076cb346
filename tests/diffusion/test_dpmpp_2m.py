r"""DPM-Solver++ (2M)."""

import math
from functools import partial

import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.ddim import ddim_step
from ldm.diffusion.dpmpp_2m import dpmpp_2m, dpmpp_2m_step, log_snr
from ldm.diffusion.schedule import add_noise, make_alpha_bar
from ldm.diffusion.sigmas import whole_sigma_path

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
TIGHT = {"rtol": 0, "atol": 1e-12}


def number(x):
    return torch.tensor(float(x), dtype=torch.float64)


def test_lambda_by_hand():
    # alpha_bar 0.8: alpha / sigma = sqrt(0.8 / 0.2) = 2. As much noise as picture: 0. Clean: infinite.
    assert log_snr(number(0.8)).item() == pytest.approx(math.log(2), abs=1e-12)
    assert log_snr(number(0.5)).item() == 0 and log_snr(number(1.0)).item() == math.inf


def test_a_step_by_hand():
    r"""alpha / sigma doubles twice, 1/4, 1/2, 1: alpha_bar 1/17, 1/5, 1/2, and both h are log 2.

    D = 1.5 * 4 - 0.5 * 2 = 5; sqrt(0.5 / 0.8) * 10 + sqrt(0.5) * 0.5 * 5
    """
    levels = number(1 / 17), number(1 / 5), number(1 / 2)
    step = dpmpp_2m_step(number(10)[None], number(4)[None], number(2)[None], *levels)
    assert step.item() == pytest.approx(math.sqrt(0.625) * 10 + math.sqrt(0.5) * 2.5, abs=1e-12)


def test_if_the_guess_stays_the_same_a_step_is_ddims(draw):
    x0, eps, levels = draw(2, 3), draw(2, 3), (number(0.1), number(0.3), number(0.7))
    step = dpmpp_2m_step(add_noise(x0, eps, levels[1]), x0, x0, *levels)
    torch.testing.assert_close(step, ddim_step(x0, eps, *levels[1:]), **TIGHT)


def wave(x, t, level):
    eps = torch.sin(3 * x + t)
    return (x - (1 - level).sqrt() * eps) / level.sqrt(), eps


@pytest.mark.parametrize("plain_end", [True, False])
def test_the_first_stride_and_a_plain_last_one_are_ddims(draw, plain_end):
    path = whole_sigma_path(6, ALPHA_BAR)[:-1]  # ends above 0, where a line may be drawn, too
    steps = list(dpmpp_2m(wave, draw(2, 3), path, partial(draw, 2, 3), plain_end=plain_end))
    same = []
    for step, stride in zip(steps, path):
        x0, eps = wave(step.x_t, step.t, step.alpha_bar)
        same.append(torch.allclose(step.x_prev, ddim_step(x0, eps, stride.alpha_bar, stride.alpha_bar_prev)))
    assert same == [True, False, False, False, plain_end]
