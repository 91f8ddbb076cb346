r"""Euler's method."""

import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import CLEAN
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.samplers.ddim import ddim
from ldm.diffusion.samplers.euler import euler
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import sampler_levels
from tests.diffusion.made import one, silent, ve, wave

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()


def step(x, eps, level, next_level):
    x0 = (x - level.sigma * eps) / level.alpha
    [step] = sample(euler, lambda x, level: (x0, eps), x, [level, next_level], silent)
    return step.x_prev


def test_a_step_by_hand():
    # From sigma 3 to 1, two units down along a noise of 2: 10 - 2 * 2 = 6.
    assert step(one(10), one(2), ve(3), ve(1)).item() == 6


def test_a_step_to_a_clean_latent_lands_on_the_estimate(draw):
    x0, eps = draw(2, 3), draw(2, 3)
    torch.testing.assert_close(step(x0 + 5 * eps, eps, ve(5), CLEAN), x0)


@pytest.mark.parametrize("name", ["euler", "euler_karras"])
def test_at_the_same_levels_every_step_is_ddims(draw, name):
    x, levels = draw(2, 3), sampler_levels(SAMPLERS[name], 9, ALPHA_BAR)
    runs = (sample(update, wave, x, levels, silent) for update in (euler, ddim))
    for ours, theirs in zip(*runs, strict=True):
        torch.testing.assert_close(ours.x_prev, theirs.x_prev, rtol=1e-12, atol=1e-12)


def test_the_same_run_in_ve_form_is_the_same_run(draw):
    # x / alpha, at the VE level sigma / alpha: the same latents in another unit.
    x, levels = draw(2, 3), sampler_levels(SAMPLERS["euler"], 9, ALPHA_BAR)

    def in_ve_form(y, level):
        vp_level = next(other for other in levels if other.t == level.t)
        return wave(vp_level.alpha * y, vp_level)

    ours = sample(euler, wave, x, levels, silent)
    theirs = sample(
        euler, in_ve_form, x / levels[0].alpha, [ve(level.ve_sigma, level.t) for level in levels], silent
    )
    for a, b, level in zip(ours, theirs, levels[1:]):
        torch.testing.assert_close(a.x_prev, level.alpha * b.x_prev, rtol=1e-10, atol=1e-10)
