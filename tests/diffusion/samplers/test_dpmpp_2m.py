r"""DPM-Solver++ (2M)."""

import math

import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.samplers.dpmpp_2m import dpmpp_2m, dpmpp_2m_step
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import sampler_levels
from tests.diffusion.made import one, silent, vp, wave

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
TIGHT = {"rtol": 0, "atol": 1e-12}


def test_a_step_by_hand():
    r"""alpha / sigma doubles twice, 1/4, 1/2, 1: alpha_bar 1/17, 1/5, 1/2, and both h are log 2.

    D = 1.5 * 4 - 0.5 * 2 = 5; sqrt(0.5 / 0.8) * 10 + sqrt(0.5) * 0.5 * 5
    """
    step = dpmpp_2m_step(one(10), one(4), one(2), vp(1 / 17), vp(1 / 5), vp(1 / 2))
    assert step.item() == pytest.approx(math.sqrt(0.625) * 10 + math.sqrt(0.5) * 2.5, abs=1e-12)


def test_a_step_over_uneven_levels_by_hand():
    r"""alpha / sigma 1/4, 1/2, 2: h = 2 log 2 and h_prev = log 2, so D = 4 + 1 * (4 - 2) = 6.

    sigma' / sigma = sqrt(0.2 / 0.8) = 0.5, alpha' = sqrt(0.8), e^-h = 1/4: 5 + sqrt(0.8) * 0.75 * 6
    """
    step = dpmpp_2m_step(one(10), one(4), one(2), vp(1 / 17), vp(1 / 5), vp(4 / 5))
    assert step.item() == pytest.approx(5 + math.sqrt(0.8) * 4.5, abs=1e-12)


def test_if_the_estimate_stays_the_same_a_step_is_ddims(draw):
    x0, eps, levels = draw(2, 3), draw(2, 3), (vp(0.1), vp(0.3), vp(0.7))
    step = dpmpp_2m_step(levels[1].mix(x0, eps), x0, x0, *levels)
    torch.testing.assert_close(step, levels[2].mix(x0, eps), **TIGHT)


def test_the_first_step_and_the_last_one_are_ddims(draw):
    levels = sampler_levels(SAMPLERS["dpmpp_2m"], 6, ALPHA_BAR)[
        :-1
    ]  # ends above 0, where a line is possible, too
    same = [
        torch.allclose(step.x_prev, there.mix(*wave(step.x_t, step.level)))
        for step, there in zip(sample(dpmpp_2m, wave, draw(2, 3), levels, silent), levels[1:], strict=True)
    ]
    assert same == [True, False, False, False, True]
