r"""PLMS."""

from functools import partial

import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.ddim import ddim
from ldm.diffusion.lms import lms_weights
from ldm.diffusion.plms import extrapolated_eps, plms, plms_step
from ldm.diffusion.samplers import ddim_path
from ldm.diffusion.schedule import make_alpha_bar

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
TIGHT = {"rtol": 0, "atol": 1e-12}


def number(x):
    return torch.tensor(float(x), dtype=torch.float64)


def wave(x, t, level):
    eps = torch.sin(3 * x + t)
    return (x - (1 - level).sqrt() * eps) / level.sqrt(), eps


@pytest.mark.parametrize(
    ("guesses", "expected"),
    [
        ([7], 7),
        ([1, 2], (3 * 2 - 1) / 2),
        ([1, 2, 4], (23 * 4 - 16 * 2 + 5 * 1) / 12),
        ([1, 2, 4, 8], (55 * 8 - 59 * 4 + 37 * 2 - 9 * 1) / 24),
    ],
)
def test_the_mean_noise_ahead_by_hand(guesses, expected):
    assert extrapolated_eps([number(g)[None] for g in guesses]).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_its_weights_are_those_of_lms_on_even_levels(count):
    guesses = list(torch.eye(count, dtype=torch.float64))
    weights = lms_weights([float(-i) for i in range(count)], float(-count))
    assert extrapolated_eps(guesses).tolist() == pytest.approx([-w for w in weights], abs=1e-12)


def test_a_step_is_the_papers(draw):
    r"""x' - x in PNDM's letters (Liu et al. 2022): the sum of both terms below, a for alpha_bar, b for the new one."""
    x, eps, a, b = draw(2, 3), draw(2, 3), number(0.3), number(0.7)
    of_x = x / (a.sqrt() * (b.sqrt() + a.sqrt()))
    of_eps = eps / (a.sqrt() * (((1 - b) * a).sqrt() + ((1 - a) * b).sqrt()))
    torch.testing.assert_close(plms_step(x, eps, a, b), x + (b - a) * (of_x - of_eps), **TIGHT)


def test_the_network_is_asked_once_more_than_there_are_strides():
    asked = []

    def denoise(x, t, level):
        asked.append(t)
        assert level == ALPHA_BAR[t]
        return wave(x, t, level)

    steps = list(plms(denoise, number(1)[None], ddim_path(20, ALPHA_BAR), lambda: number(0)[None]))
    assert asked == [951, 901, 901, *range(851, 0, -50)]
    assert [step.t for step in steps] == list(range(951, 0, -50))


def test_the_second_look_leads_the_first_stride_and_is_then_forgotten(draw):
    x, path = draw(2, 3), ddim_path(20, ALPHA_BAR)
    first, second, *_ = plms(wave, x, path, partial(draw, 2, 3))
    _, here = wave(x, 951, ALPHA_BAR[951])
    _, there = wave(plms_step(x, here, ALPHA_BAR[951], ALPHA_BAR[901]), 901, ALPHA_BAR[901])
    landed = plms_step(x, (here + there) / 2, ALPHA_BAR[951], ALPHA_BAR[901])
    torch.testing.assert_close(first.x_prev, landed, **TIGHT)
    _, now = wave(landed, 901, ALPHA_BAR[901])
    expected = plms_step(landed, (3 * now - here) / 2, ALPHA_BAR[901], ALPHA_BAR[851])
    torch.testing.assert_close(second.x_prev, expected, **TIGHT)


def test_a_single_stride_is_ddims(draw):
    x, path, noise = draw(2, 3), ddim_path(1, ALPHA_BAR), partial(draw, 2, 3)
    [ours], [theirs] = plms(wave, x, path, noise), ddim(wave, x, path, noise)
    torch.testing.assert_close(ours.x_prev, theirs.x_prev, **TIGHT)
