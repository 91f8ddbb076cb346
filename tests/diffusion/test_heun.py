r"""Heun's method."""

from functools import partial

import numpy as np
import pytest
import torch

from ldm.diffusion.heun import heun, heun_step
from ldm.diffusion.sigmas import levels_to_path, sigma_of


def number(x):
    return torch.tensor(float(x), dtype=torch.float64)


def test_a_step_by_hand():
    # From sigma 3 to 1, two units down along the mean of 2 and 4: 10 - 2 * 3 = 4.
    step = heun_step(number(10)[None], number(2)[None], number(4)[None], number(3), number(1))
    assert step.item() == 4


def test_the_network_is_asked_twice_a_stride_but_once_for_the_last(draw):
    asked = []

    def denoise(x, t, level):
        asked.append((t, round(sigma_of(level).item(), 9)))
        return x, torch.zeros_like(x)

    path = levels_to_path([30, 20, 10], np.array([3.0, 2.0, 1.0]), number(0.5)[None])
    steps = list(heun(denoise, draw(2, 3), path, partial(draw, 2, 3)))
    assert asked == [(30, 3), (20, 2), (20, 2), (10, 1), (10, 1)]
    assert [step.t for step in steps] == [30, 20, 10]


def test_a_direction_that_turns_evenly_is_followed_exactly():
    # dy/dsigma = sigma, so y falls by (9 - 1) / 2 = 4 from sigma 3 to 1; Euler's step would fall by 6.
    path = levels_to_path([3, 1], np.array([3.0, 1.0]), number(0.5)[None])
    start = number(10)[None] * path[0].alpha_bar.sqrt()
    denoise = lambda x, t, level: (x, sigma_of(level).expand_as(x))  # noqa: E731
    first = next(heun(denoise, start, path, lambda: start))
    assert (first.x_prev / path[1].alpha_bar.sqrt()).item() == pytest.approx(6, abs=1e-12)
