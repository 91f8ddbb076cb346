r"""What a prediction means, and guidance."""

import math

import pytest
import torch

from ldm.diffusion.predict import guide, rescale_guidance, target, x0_and_eps
from ldm.diffusion.schedule import add_noise
from ldm.errors import LdmError

TIGHT = {"rtol": 0, "atol": 1e-12}
KINDS = ("eps", "v", "x0")


def number(x):
    return torch.tensor([float(x)], dtype=torch.float64)


LEVEL = number(0.64)  # a = 0.8, s = 0.6


def test_the_targets_by_hand():
    # x0 = 10, eps = 5: v = 0.8 * 5 - 0.6 * 10 = -2
    targets = [target(kind, number(10), number(5), LEVEL).item() for kind in KINDS]
    assert targets == pytest.approx([5, -2, 10], abs=1e-12)


@pytest.mark.parametrize(
    ("kind", "out"),
    [
        ("eps", 5),  # x0 = (11 - 0.6 * 5) / 0.8 = 10
        ("v", -2),  # x0 = 0.8 * 11 + 0.6 * 2 = 10; eps = 0.6 * 11 - 0.8 * 2 = 5
        ("x0", 10),  # eps = (11 - 0.8 * 10) / 0.6 = 5
    ],
)
def test_every_kind_of_prediction_by_hand(kind, out):
    # x_t = 0.8 * 10 + 0.6 * 5 = 11
    x0, eps = x0_and_eps(kind, number(out), number(11), LEVEL[0])
    assert (x0.item(), eps.item()) == pytest.approx((10, 5), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.9991, 0.5, 0.0047])
def test_a_perfect_prediction_gives_back_picture_and_noise(draw, kind, level):
    x0, eps = draw(2, 4, 3, 5), draw(2, 4, 3, 5)
    alpha_bar = torch.tensor(level, dtype=torch.float64)
    out = target(kind, x0, eps, alpha_bar.expand(2))
    found = x0_and_eps(kind, out, add_noise(x0, eps, alpha_bar), alpha_bar)
    torch.testing.assert_close(found, (x0, eps), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_any_prediction_is_read_so_that_the_two_add_up_to_the_latent(draw, kind):
    # However wrong the network is, a x0 + s eps = x_t.
    out, x_t = draw(2, 4, 3, 5), draw(2, 4, 3, 5)
    x0, eps = x0_and_eps(kind, out, x_t, LEVEL[0])
    torch.testing.assert_close(add_noise(x0, eps, LEVEL[0]), x_t, **TIGHT)


def test_each_picture_of_a_batch_has_its_own_target(draw):
    x0, eps, levels = draw(2, 4, 3, 5), draw(2, 4, 3, 5), torch.tensor([0.64, 0.1], dtype=torch.float64)
    both = target("v", x0, eps, levels)
    for i in range(2):
        alone = target("v", x0[i : i + 1], eps[i : i + 1], levels[i : i + 1])
        torch.testing.assert_close(both[i : i + 1], alone, **TIGHT)


def test_half_precision_does_not_lose_the_first_touch_of_noise(draw):
    x0, eps = draw(1, 5).bfloat16(), torch.zeros(1, 5).bfloat16()
    v = target("v", x0, eps, torch.tensor([0.99915]))  # 1 in bfloat16
    assert v.dtype == torch.bfloat16
    torch.testing.assert_close(v, (-(0.00085**0.5) * x0.double()).bfloat16(), rtol=0.01, atol=0)


def test_v_is_how_the_latent_changes_along_the_circle_from_picture_to_noise(draw):
    r"""With a = cos(phi), s = sin(phi), v is the derivative of x_t by phi; here as a difference quotient."""
    x0, eps, phi, h = draw(1, 4), draw(1, 4), 0.7, 1e-6

    def x(angle):
        return math.cos(angle) * x0 + math.sin(angle) * eps

    slope = (x(phi + h) - x(phi - h)) / (2 * h)
    torch.testing.assert_close(target("v", x0, eps, number(math.cos(phi) ** 2)), slope, rtol=0, atol=1e-8)


def test_v_and_the_latent_are_a_rotation_of_picture_and_noise(draw):
    x0, eps = draw(2, 4), draw(2, 4)
    x_t, v = add_noise(x0, eps, LEVEL[0]), target("v", x0, eps, LEVEL.expand(2))
    torch.testing.assert_close(x_t**2 + v**2, x0**2 + eps**2, **TIGHT)


def test_guidance_by_hand():
    # 2 + 3 * (5 - 2) = 11
    assert guide(number(2), number(5), 3.0).item() == pytest.approx(11, abs=1e-12)


@pytest.mark.parametrize("g", [0.0, 1.0, 3.0, 7.5, -1.0])
def test_both_ways_of_writing_guidance_agree(draw, g):
    uncond, cond, w = draw(2, 4, 3, 5), draw(2, 4, 3, 5), g - 1
    papers = (1 + w) * cond - w * uncond  # Ho & Salimans 2022, eq. 6
    torch.testing.assert_close(guide(uncond, cond, g), papers, **TIGHT)


def test_guidance_zero_ignores_the_prompt_and_one_ignores_the_rest(draw):
    uncond, cond = draw(2, 4, 3, 5), draw(2, 4, 3, 5)
    torch.testing.assert_close(guide(uncond, cond, 0.0), uncond, **TIGHT)
    torch.testing.assert_close(guide(uncond, cond, 1.0), cond, **TIGHT)


def test_guidance_without_a_difference_does_nothing(draw):
    cond = draw(2, 4, 3, 5)
    torch.testing.assert_close(guide(cond, cond, 7.5), cond, **TIGHT)


def test_unknown_kinds_are_errors():
    with pytest.raises(LdmError, match="'noise'; expected 'eps', 'v' or 'x0'"):
        x0_and_eps("noise", number(1), number(1), LEVEL[0])
    with pytest.raises(LdmError, match="'noise'; expected 'eps', 'v' or 'x0'"):
        target("noise", number(1), number(1), LEVEL)


def test_rescaled_guidance_by_hand():
    # Standard deviations sqrt(2) of (0, 2) and 3 sqrt(2) of (0, 6): a third of it, mixed half and half: 2 / 3.
    guided, cond = torch.tensor([[0.0, 6.0]]).double(), torch.tensor([[0.0, 2.0]]).double()
    torch.testing.assert_close(rescale_guidance(guided, cond, 0.5), guided * 2 / 3, **TIGHT)


def test_fully_rescaled_guidance_has_the_spread_of_the_plain_prediction_picture_by_picture(draw):
    scale = torch.tensor([1.0, 5.0]).double().reshape(2, 1, 1, 1)
    guided, cond = scale * draw(2, 4, 3, 5), draw(2, 4, 3, 5)
    full, none = rescale_guidance(guided, cond, 1.0), rescale_guidance(guided, cond, 0.0)
    for i in range(2):
        torch.testing.assert_close(full[i].std(), cond[i].std(), **TIGHT)
        torch.testing.assert_close(full[i] / guided[i], (cond[i].std() / guided[i].std()).expand_as(full[i]))
    torch.testing.assert_close(none, guided, **TIGHT)
