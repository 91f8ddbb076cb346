r"""Classifier-free guidance."""

import pytest
import torch

from ldm.diffusion.guidance import classifier_free_guidance, guidance_at, rescale_guidance
from ldm.diffusion.level import Level
from ldm.errors import LdmError

TIGHT = {"rtol": 0, "atol": 1e-12}


def number(x):
    return torch.tensor([float(x)], dtype=torch.float64)


def test_guidance_by_hand():
    # 2 + 3 * (5 - 2) = 11
    assert classifier_free_guidance(number(2), number(5), 3.0).item() == pytest.approx(11, abs=1e-12)


@pytest.mark.parametrize("g", [0.0, 1.0, 3.0, 7.5, -1.0])
def test_both_ways_of_writing_guidance_agree(draw, g):
    uncond, cond, w = draw(2, 4, 3, 5), draw(2, 4, 3, 5), g - 1
    papers = (1 + w) * cond - w * uncond  # Ho & Salimans 2022, eq. 6
    torch.testing.assert_close(classifier_free_guidance(uncond, cond, g), papers, **TIGHT)


def test_guidance_zero_ignores_the_prompt_and_one_ignores_the_rest(draw):
    uncond, cond = draw(2, 4, 3, 5), draw(2, 4, 3, 5)
    torch.testing.assert_close(classifier_free_guidance(uncond, cond, 0.0), uncond, **TIGHT)
    torch.testing.assert_close(classifier_free_guidance(uncond, cond, 1.0), cond, **TIGHT)


def test_guidance_without_a_difference_does_nothing(draw):
    cond = draw(2, 4, 3, 5)
    torch.testing.assert_close(classifier_free_guidance(cond, cond, 7.5), cond, **TIGHT)


def test_rescaled_guidance_by_hand():
    # Standard deviations sqrt(2) of (0, 2) and 3 sqrt(2) of (0, 6): a third of it, mixed half and half: 2 / 3.
    guided, cond = torch.tensor([[0.0, 6.0]]).double(), torch.tensor([[0.0, 2.0]]).double()
    torch.testing.assert_close(rescale_guidance(guided, cond, 0.5), guided * 2 / 3, **TIGHT)


def test_fully_rescaled_guidance_has_the_spread_of_the_plain_prediction_image_by_image(draw):
    scale = torch.tensor([1.0, 5.0]).double().reshape(2, 1, 1, 1)
    guided, cond = scale * draw(2, 4, 3, 5), draw(2, 4, 3, 5)
    full, none = rescale_guidance(guided, cond, 1.0), rescale_guidance(guided, cond, 0.0)
    for i in range(2):
        torch.testing.assert_close(full[i].std(), cond[i].std(), **TIGHT)
        torch.testing.assert_close(full[i] / guided[i], (cond[i].std() / guided[i].std()).expand_as(full[i]))
    torch.testing.assert_close(none, guided, **TIGHT)


@pytest.mark.parametrize(("sigma", "expected"), [(0.2, 1.0), (0.25, 1.0), (0.5, 7.5), (4.0, 7.5), (5.0, 1.0)])
def test_guidance_counts_above_low_and_up_to_high(sigma, expected):
    # alpha and sigma are halved: it is their ratio that counts.
    level = Level(t=0, alpha=0.5, sigma=0.5 * sigma)
    assert guidance_at(level, 7.5, (0.25, 4.0)) == expected
    assert guidance_at(level, 7.5, None) == 7.5


def test_pure_noise_is_above_every_interval():
    assert guidance_at(Level(t=999, alpha=0.0, sigma=1.0), 7.5, (0.0, 1e9)) == 1.0


@pytest.mark.parametrize("interval", [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0)])
def test_an_interval_that_is_none_is_an_error(interval):
    with pytest.raises(LdmError, match="expected two numbers with 0 <= low < high"):
        guidance_at(Level(t=0, alpha=1.0, sigma=1.0), 7.5, interval)
