r"""TCD."""

import math

import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import CLEAN, vp_level, vp_level_of
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.samplers.ddpm import step_variance
from ldm.diffusion.samplers.tcd import tcd, tcd_step
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import sampler_levels
from ldm.errors import LdmError
from tests.diffusion.made import one, silent, vp, wave

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
TIGHT = {"rtol": 0, "atol": 1e-12}
LEVELS = sampler_levels(SAMPLERS["tcd"], 4, ALPHA_BAR)


def test_a_step_by_hand():
    r"""Down to alpha_bar 0.64, up to 0.16: alpha' / alpha_s = 1/2; 0.5 * (0.8 * 4 + 0.6 * 5) + sqrt(0.75) * 2.

    For 0.84 - 0.25 * 0.36 = 0.75.
    """
    step = tcd_step(one(4), one(5), vp(0.64), vp(0.16), one(2))
    assert step.item() == pytest.approx(3.1 + 2 * math.sqrt(0.75), abs=1e-12)


def test_what_is_added_on_the_way_up_is_what_the_forward_process_adds():
    step = tcd_step(one(0), one(0), vp(0.64), vp(0.16), one(1))
    assert step.item() ** 2 == pytest.approx(step_variance(vp(0.16), vp(0.64)), abs=1e-12)


def run(eta, draw, x, noise_fn=None):
    update = SAMPLERS["tcd"].with_eta(eta)
    return list(sample(update, wave, x, LEVELS, noise_fn or (lambda *_: draw(2, 3))))


def test_it_turns_at_a_whole_timestep_below_its_target(draw):
    # From 999 to 759 with eta 0.3: 0.7 * 759 = 531.3.
    x, z = draw(2, 3), draw(2, 3)
    step = run(0.3, draw, x, lambda *_: z)[0]
    expected = tcd_step(*wave(x, LEVELS[0]), vp_level(531, ALPHA_BAR), LEVELS[1], z)
    torch.testing.assert_close(step.x_prev, expected, **TIGHT)
    torch.testing.assert_close(run(None, draw, x, lambda *_: z)[0].x_prev, expected, **TIGHT)  # the default


def test_without_noise_it_is_ddim(draw):
    x = draw(2, 3)
    ddim = list(sample(SAMPLERS["ddim"].update, wave, x, LEVELS, silent))
    for got, expected in zip(run(0.0, draw, x), ddim, strict=True):
        torch.testing.assert_close(got.x_prev, expected.x_prev, **TIGHT)


def test_the_last_step_ends_at_timestep_0_without_noise(draw):
    last = run(1.0, draw, draw(2, 3))[-1]
    assert LEVELS[-1] == vp_level(0, ALPHA_BAR)
    torch.testing.assert_close(last.x_prev, LEVELS[-1].mix(*wave(last.x_t, last.level)), **TIGHT)


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_an_eta_that_makes_no_sense_is_an_error(draw, eta):
    with pytest.raises(LdmError, match=f"eta is {eta}; expected 0"):
        run(eta, draw, draw(2, 3))


def test_hand_made_levels_need_a_schedule(draw):
    with pytest.raises(LdmError, match="has no schedule; expected levels as from `sampler_levels`"):
        list(sample(tcd, wave, draw(2, 3), [vp_level_of(0, 3.0), CLEAN], lambda *_: draw(2, 3)))
