r"""UniPC."""

import math
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import CLEAN, vp_level_of
from ldm.diffusion.sample import Evaluation, sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.samplers.unipc import mean_x0, unipc, unipc_step, unipc_weights
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.sigmas import karras_sigmas
from ldm.diffusion.spacing import sampler_levels
from tests.diffusion.made import gaussian, one, silent, vp, wave

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
TIGHT = {"rtol": 0, "atol": 1e-12}


def test_a_single_weight_is_a_half_and_two_are_exact_for_a_parabola():
    assert unipc_weights([-1.3], 0.7) == [0.5]
    # The mean of r and of r^2 over a step, weighted with e^(h r), by hand for h = log 2 (then e^h = 2):
    # of r: 2 - 1 / log 2; of r^2: 2 - 2 (2 - 1 / log 2) / log 2.
    h = math.log(2)
    mean_r = 2 - 1 / h
    expected = [mean_r, 2 - 2 * mean_r / h]
    for ratios in ([-0.8, 1.0], [-2.0, -0.5]):
        weights = unipc_weights(ratios, h)
        powers = [sum(w * r**j for w, r in zip(weights, ratios)) for j in range(2)]
        assert powers == pytest.approx(expected, abs=1e-12)


def at(level, x0):
    return Evaluation(level, one(0), one(x0), one(0))


def test_a_mean_by_hand():
    r"""alpha / sigma 1/4, 1/2, 1: r = -1, so D = 4 + 1/2 * (2 - 4) / -1 = 5; with the end, r = 1, instead: 4.5."""
    prev, now, end = at(vp(1 / 17), 2), at(vp(1 / 5), 4), at(vp(1 / 2), 5)
    assert mean_x0(now, [prev], end.level).item() == pytest.approx(5, abs=1e-12)
    assert mean_x0(now, [end], end.level).item() == pytest.approx(4.5, abs=1e-12)
    assert mean_x0(now, [], end.level).item() == 4


def test_a_step_by_hand():
    r"""The numbers of DPM++ 2M's: sqrt(0.5 / 0.8) * 10 + sqrt(0.5) * 0.5 * 5."""
    step = unipc_step(one(10), one(5), vp(1 / 5), vp(1 / 2))
    assert step.item() == pytest.approx(math.sqrt(0.625) * 10 + math.sqrt(0.5) * 2.5, abs=1e-12)


def test_the_first_step_and_the_last_one_are_ddims_and_the_second_one_starts_corrected(draw):
    levels = sampler_levels(SAMPLERS["unipc"], 6, ALPHA_BAR)
    first, second, *_, last = sample(unipc, wave, draw(2, 3), levels, silent)
    x0, eps = wave(first.x_t, levels[0])
    torch.testing.assert_close(first.x_prev, levels[1].mix(x0, eps), **TIGHT)
    torch.testing.assert_close(last.x_prev, last.x0, **TIGHT)
    # The first step again with the mean of the estimates at both ends, and the second from there.
    h = levels[1].half_log_snr - levels[0].half_log_snr
    corrected = first.x_prev - levels[1].alpha * math.expm1(-h) * (second.x0 - first.x0) / 2
    past = [
        Evaluation(levels[0], first.x_t, first.x0, eps),
        Evaluation(levels[1], second.x_t, second.x0, eps),
    ]
    expected = unipc_step(corrected, mean_x0(past[1], past[:1], levels[2]), levels[1], levels[2])
    torch.testing.assert_close(second.x_prev, expected, **TIGHT)


def error_on_a_gaussian(order, count):
    r"""As in test_table.py: from s = 10 to 0.1, where the exact result is known."""
    mean, std, high, low = 0.8, 0.5, 10.0, 0.1
    levels = [vp_level_of(0, s) for s in karras_sigmas(count + 1, low, high).tolist()]
    start = levels[0].alpha * torch.tensor([7.0], dtype=torch.float64)
    update = partial(unipc, order=order)
    *_, step = islice(sample(update, gaussian(mean, std), start, [*levels, CLEAN], silent), count)
    exact = mean + (7 - mean) * np.sqrt((std**2 + low**2) / (std**2 + high**2))
    return abs(step.x_prev.item() / levels[-1].alpha - exact)


@pytest.mark.parametrize(("order", "falls"), [(1, 2), (2, 3), (3, 3)])
def test_the_corrector_makes_it_one_order_better(order, falls):
    # (At order 3 the first steps, which are of a lower one, decide.)
    found = math.log2(error_on_a_gaussian(order, 80) / error_on_a_gaussian(order, 160))
    assert found == pytest.approx(falls, abs=0.1)


def test_in_ten_steps_it_is_closer_than_dpmpp_2m():
    assert error_on_a_gaussian(3, 40) < error_on_a_gaussian(2, 40) < error_on_a_gaussian(1, 40)
