r"""PLMS."""

import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import CLEAN
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.samplers.ddim import ddim
from ldm.diffusion.samplers.lms import lms_weights
from ldm.diffusion.samplers.plms import extrapolated_eps, plms, plms_step
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import sampler_levels
from tests.diffusion.made import one, silent, vp, wave

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
TIGHT = {"rtol": 0, "atol": 1e-12}


def levels(count):
    return sampler_levels(SAMPLERS["plms"], count, ALPHA_BAR)


@pytest.mark.parametrize(
    ("estimates", "expected"),
    [
        ([7], 7),
        ([1, 2], (3 * 2 - 1) / 2),
        ([1, 2, 4], (23 * 4 - 16 * 2 + 5 * 1) / 12),
        ([1, 2, 4, 8], (55 * 8 - 59 * 4 + 37 * 2 - 9 * 1) / 24),
    ],
)
def test_the_mean_noise_ahead_by_hand(estimates, expected):
    assert extrapolated_eps([one(e) for e in estimates]).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_its_weights_are_those_of_lms_on_even_levels(count):
    estimates = list(torch.eye(count, dtype=torch.float64))
    weights = lms_weights([float(-i) for i in range(count)], float(-count))
    assert extrapolated_eps(estimates).tolist() == pytest.approx([-w for w in weights], abs=1e-12)


def test_a_step_is_the_papers(draw):
    r"""x' - x in PNDM's letters (Liu et al. 2022): the sum of both terms below, a for alpha_bar, b for the new one."""
    x, eps, a, b = draw(2, 3), draw(2, 3), 0.3, 0.7
    of_x = x / (a**0.5 * (b**0.5 + a**0.5))
    of_eps = eps / (a**0.5 * (((1 - b) * a) ** 0.5 + ((1 - a) * b) ** 0.5))
    torch.testing.assert_close(plms_step(x, eps, vp(a), vp(b)), x + (b - a) * (of_x - of_eps), **TIGHT)


def test_there_is_one_evaluation_more_than_there_are_steps():
    evaluated = []

    def denoise(x, level):
        evaluated.append(level.t)
        assert level.alpha**2 == pytest.approx(ALPHA_BAR[level.t].item(), abs=1e-12)
        return wave(x, level)

    steps = list(sample(plms, denoise, one(1), levels(20), silent))
    assert evaluated == [951, 901, 901, *range(851, 0, -50)]
    assert [step.level.t for step in steps] == list(range(951, 0, -50))


def test_the_second_evaluation_directs_the_first_step_and_is_then_forgotten(draw):
    x, (a, b, c, *_) = draw(2, 3), levels(20)
    first, second, *_ = sample(plms, wave, x, levels(20), silent)
    _, here = wave(x, a)
    _, there = wave(plms_step(x, here, a, b), b)
    landed = plms_step(x, (here + there) / 2, a, b)
    torch.testing.assert_close(first.x_prev, landed, **TIGHT)
    _, now = wave(landed, b)
    torch.testing.assert_close(second.x_prev, plms_step(landed, (3 * now - here) / 2, b, c), **TIGHT)


def test_a_single_step_is_ddims(draw):
    x = draw(2, 3)
    [ours], [theirs] = (sample(update, wave, x, levels(1), silent) for update in (plms, ddim))
    torch.testing.assert_close(ours.x_prev, theirs.x_prev, **TIGHT)


def test_the_step_from_pure_noise_is_eulers_and_the_next_one_is_the_first(draw):
    x0, eps, evaluated = draw(2, 3), draw(2, 3), []

    def denoise(x, level):
        evaluated.append(level.t)
        return x0, eps

    path = [vp(0.0, 999), vp(0.2, 500), vp(0.8, 100), CLEAN]
    first, second, _ = sample(plms, denoise, eps, path, silent)
    torch.testing.assert_close(first.x_prev, path[1].mix(x0, eps))
    torch.testing.assert_close(second.x_prev, path[2].mix(x0, eps), rtol=0, atol=1e-12)
    assert evaluated == [999, 500, 100, 100]
