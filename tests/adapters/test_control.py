r"""When and how strongly a ControlNet acts, and what several of them add."""

import math

import pytest
import torch
from PIL import Image

from ldm.adapters.control import Control, is_active, residual_scales
from ldm.adapters.controlnet import ControlNet
from ldm.diffusion.conditioning import Conditioning, added_up, concatenate, side_by_side
from ldm.diffusion.level import CLEAN, Level
from ldm.errors import LdmError
from ldm.prompts import with_control
from tests.small import CONFIG


def test_the_weights_of_guess_mode_rise_from_a_tenth_and_are_near_the_original_codes():
    scales = residual_scales(13, 2.0, guess=True)
    assert scales[0] == pytest.approx(0.2) and scales[-1] == 2.0
    assert all(abs(2 * 0.825 ** (12 - i) / scale - 1) < 0.006 for i, scale in enumerate(scales))
    assert residual_scales(3, 0.5) == [0.5] * 3


def test_a_controlnet_acts_in_the_steps_that_lie_whole_between_start_and_end():
    levels = [Level(t, 0.6, 0.8) for t in (900, 600, 300, 100)] + [CLEAN]
    active = [is_active(level, levels, 0.25, 0.75) for level in levels[:-1]]
    assert active == [False, True, True, False]
    assert is_active(Level(450, 0.6, 0.8), levels, 0.25, 0.75)  # halfway between two: of the second step
    assert not is_active(Level(950, 0.6, 0.8), levels, 0.25, 1.0)
    assert not any(is_active(level, levels, 0.3, 0.5) for level in levels[:-1])
    assert [is_active(level, levels, 0.25, 0.6) for level in levels[:-1]] == [False, True, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": math.nan}, "a ControlNet's strength of nan; expected a number"),
        ({"start": 0.5, "end": 0.5}, "from 0.5 to 0.5 of the steps; expected 0 <= start < end <= 1"),
        ({"end": 1.5}, "from 0.0 to 1.5"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(LdmError, match=message):
        Control(ControlNet(CONFIG.unet, (4, 6)), Image.new("RGB", (16, 16)), **options)


def test_a_network_without_its_image_is_refused():
    network = ControlNet(CONFIG.unet, (4, 6))
    for control in (network, [network]):
        with pytest.raises(LdmError, match=r"a network alone; expected .* control=Control\(network, image\)"):
            with_control([], control, [CLEAN], (16, 16))


LEVEL = Level(500, 0.6, 0.8)


def test_a_network_that_pools_acts_on_the_prompt_alone_and_on_all_skips_alike(randomise, draw):
    network = randomise(ControlNet(CONFIG.unet, (4, 6), pool=True)).double().requires_grad_(False)
    x, cond = draw(1, 4, 8, 8), Conditioning(draw(1, 3, 16))
    found = []
    for strength, guess in ((1.0, False), (2.0, True)):
        control = Control(network, Image.new("RGB", (16, 16), "white"), strength, guess=guess)
        residuals, of_negative = control([LEVEL, CLEAN], (16, 16))
        assert of_negative is None
        found.append(residuals(x, LEVEL, cond))
    for once, twice in zip(*found, strict=True):
        assert once.any()
        torch.testing.assert_close(twice, 2 * once)


def scaled(factor):
    r"""Residuals that depend on everything given: on x_t, the level and the context."""
    return lambda x_t, level, cond: [
        factor * level.t * x_t,
        factor * cond.context.sum((1, 2))[:, None, None, None],
    ]


def test_conditionings_that_differ_in_their_residuals_each_keep_their_own(draw):
    x, cond = draw(3, 2, 4, 4), Conditioning(draw(3, 5, 6))
    first, second = scaled(1.0), scaled(-2.0)
    joined = concatenate(
        Conditioning(cond.context[:1], residuals=first), Conditioning(cond.context[1:], residuals=second)
    )
    one, other = first(x[:1], LEVEL, cond[:1]), second(x[1:], LEVEL, cond[1:])
    found = joined.residuals(x, LEVEL, cond)
    assert all(torch.equal(f, torch.cat(pair)) for f, pair in zip(found, zip(one, other), strict=True))


@pytest.mark.parametrize("nothing", [None, lambda *_: []])
def test_a_half_without_residuals_gets_zeros(draw, nothing):
    x, cond = draw(3, 2, 4, 4), Conditioning(draw(3, 5, 6))
    for residuals, zeros in (
        (side_by_side(nothing, scaled(1.0), 2), slice(2)),
        (side_by_side(scaled(1.0), nothing, 2), slice(2, None)),
    ):
        for residual in residuals(x, LEVEL, cond):
            assert len(residual) == 3 and not residual[zeros].any()
    assert not list(side_by_side(nothing, nothing, 2)(x, LEVEL, cond))


def test_what_several_add_is_their_sum_and_those_that_rest_add_nothing(draw):
    x, cond = draw(2, 2, 4, 4), Conditioning(draw(2, 5, 6))
    together = added_up([scaled(1.0), lambda *_: [], scaled(2.5)])
    for found, expected in zip(together(x, LEVEL, cond), scaled(3.5)(x, LEVEL, cond), strict=True):
        torch.testing.assert_close(found, expected)
    alone = scaled(1.0)
    assert added_up([alone]) is alone and added_up([]) is None
    assert added_up([lambda *_: [], lambda *_: []])(x, LEVEL, cond) == []
