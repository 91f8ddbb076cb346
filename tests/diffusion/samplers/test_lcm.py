r"""LCM."""

import math

import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import CLEAN, Level
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.samplers.lcm import boundary_weights, lcm, lcm_step
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import sampler_levels
from tests.diffusion.made import one, perfect, wave

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()


def test_the_boundary_weights_are_the_published_ones():
    assert boundary_weights(0) == (1, 0)
    assert boundary_weights(19) == pytest.approx((6.925e-6, 0.9999965), rel=1e-4)
    # s = 0.5 at t = 0.05: 1/2 and 1/sqrt(2)
    assert boundary_weights(0.05) == pytest.approx((0.5, math.sqrt(0.5)), rel=1e-12)


def test_a_step_by_hand():
    # s = 0.5 again: 0.6 * (sqrt(0.5) * 4 + 0.5 * 10) + 0.8 * 3
    step = lcm_step(one(10), one(4), Level(0.05, 0.1, 0.9), Level(0, 0.6, 0.8), one(3))
    assert step.item() == pytest.approx(0.6 * (math.sqrt(0.5) * 4 + 5) + 2.4, abs=1e-12)


def test_four_steps_are_on_the_grid_and_end_at_the_estimate_without_noise(draw):
    levels, evaluated = sampler_levels(SAMPLERS["lcm"], 4, ALPHA_BAR), []

    def denoise(x_t, level):
        evaluated.append(level.t)
        return wave(x_t, level)

    *_, last = sample(lcm, denoise, draw(2, 3), levels, lambda *_: draw(2, 3))
    assert evaluated == [999, 759, 499, 259] and levels[-1] == CLEAN
    skip, out = boundary_weights(259)
    torch.testing.assert_close(last.x_prev, out * last.x0 + skip * last.x_t, rtol=0, atol=1e-12)


def test_nothing_of_the_old_noise_is_left_after_a_step(draw):
    x0, z, levels = draw(2, 3), draw(2, 3), sampler_levels(SAMPLERS["lcm"], 4, ALPHA_BAR)
    steps = [
        next(sample(lcm, perfect(x0), levels[0].mix(x0, draw(2, 3)), levels, lambda *_: z)) for _ in range(2)
    ]
    torch.testing.assert_close(steps[0].x_prev, steps[1].x_prev, rtol=0, atol=1e-7)
    torch.testing.assert_close(steps[0].x_prev, levels[1].mix(x0, z), rtol=0, atol=1e-7)


def test_image_to_image_stays_on_the_grid():
    # Half of four steps are the last two; diffusers takes four on the lower half of the grid.
    assert [level.t for level in sampler_levels(SAMPLERS["lcm"], 4, ALPHA_BAR)[2:-1]] == [499, 259]
