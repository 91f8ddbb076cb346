r"""Euler's method."""

from functools import partial

import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.ddim import ddim
from ldm.diffusion.euler import euler, euler_step
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.sigmas import sigma_path

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()


def number(x):
    return torch.tensor(float(x), dtype=torch.float64)


def test_a_step_by_hand():
    # From sigma 3 to 1, two units down along a noise of 2: 10 - 2 * 2 = 6.
    assert euler_step(number(10)[None], number(2)[None], number(3), number(1)).item() == 6


def test_a_step_to_zero_lands_on_the_guess(draw):
    x0, eps = draw(2, 3), draw(2, 3)
    torch.testing.assert_close(euler_step(x0 + 5 * eps, eps, number(5), number(0)), x0)


@pytest.mark.parametrize("karras", [False, True])
def test_at_the_same_levels_every_step_is_ddims(draw, karras):
    def denoise(x, t, level):
        eps = torch.sin(3 * x + t)
        return (x - (1 - level).sqrt() * eps) / level.sqrt(), eps

    x, path, noise = draw(2, 3), sigma_path(9, ALPHA_BAR, karras), partial(draw, 2, 3)
    for ours, theirs in zip(euler(denoise, x, path, noise), ddim(denoise, x, path, noise), strict=True):
        torch.testing.assert_close(ours.x_prev, theirs.x_prev, rtol=1e-12, atol=1e-12)
