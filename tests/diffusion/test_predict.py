r"""What a prediction means."""

import math

import pytest
import torch

from ldm.diffusion.predict import training_target, x0_and_eps
from ldm.errors import LdmError
from tests.diffusion.made import vp

TIGHT = {"rtol": 0, "atol": 1e-12}
KINDS = ("eps", "v", "x0")


def number(x):
    return torch.tensor([float(x)], dtype=torch.float64)


ALPHA_BAR, LEVEL = number(0.64), vp(0.64)  # alpha = 0.8, sigma = 0.6


def test_the_targets_by_hand():
    # x0 = 10, eps = 5: v = 0.8 * 5 - 0.6 * 10 = -2
    targets = [training_target(kind, number(10), number(5), ALPHA_BAR).item() for kind in KINDS]
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
    x0, eps = x0_and_eps(kind, number(out), number(11), LEVEL)
    assert (x0.item(), eps.item()) == pytest.approx((10, 5), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha_bar", [0.9991, 0.5, 0.0047])
def test_a_perfect_prediction_gives_back_image_and_noise(draw, kind, alpha_bar):
    x0, eps = draw(2, 4, 3, 5), draw(2, 4, 3, 5)
    out = training_target(kind, x0, eps, number(alpha_bar).expand(2))
    found = x0_and_eps(kind, out, vp(alpha_bar).mix(x0, eps), vp(alpha_bar))
    torch.testing.assert_close(found, (x0, eps), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_any_prediction_is_read_so_that_the_two_add_up_to_the_latent(draw, kind):
    # However wrong the network is, alpha x0 + sigma eps = x_t.
    out, x_t = draw(2, 4, 3, 5), draw(2, 4, 3, 5)
    x0, eps = x0_and_eps(kind, out, x_t, LEVEL)
    torch.testing.assert_close(LEVEL.mix(x0, eps), x_t, **TIGHT)


def test_each_image_of_a_batch_has_its_own_training_target(draw):
    x0, eps, levels = draw(2, 4, 3, 5), draw(2, 4, 3, 5), torch.tensor([0.64, 0.1], dtype=torch.float64)
    both = training_target("v", x0, eps, levels)
    for i in range(2):
        alone = training_target("v", x0[i : i + 1], eps[i : i + 1], levels[i : i + 1])
        torch.testing.assert_close(both[i : i + 1], alone, **TIGHT)


def test_half_precision_does_not_lose_the_first_touch_of_noise(draw):
    x0, eps = draw(1, 5).bfloat16(), torch.zeros(1, 5).bfloat16()
    v = training_target("v", x0, eps, torch.tensor([0.99915]))  # 1 in bfloat16
    assert v.dtype == torch.bfloat16
    torch.testing.assert_close(v, (-(0.00085**0.5) * x0.double()).bfloat16(), rtol=0.01, atol=0)


def test_v_is_how_the_latent_changes_along_the_circle_from_picture_to_noise(draw):
    r"""With a = cos(phi), s = sin(phi), v is the derivative of x_t by phi; here as a difference quotient."""
    x0, eps, phi, h = draw(1, 4), draw(1, 4), 0.7, 1e-6

    def x(angle):
        return math.cos(angle) * x0 + math.sin(angle) * eps

    slope = (x(phi + h) - x(phi - h)) / (2 * h)
    torch.testing.assert_close(
        training_target("v", x0, eps, number(math.cos(phi) ** 2)), slope, rtol=0, atol=1e-8
    )


def test_v_and_the_latent_are_a_rotation_of_picture_and_noise(draw):
    x0, eps = draw(2, 4), draw(2, 4)
    x_t, v = LEVEL.mix(x0, eps), training_target("v", x0, eps, ALPHA_BAR.expand(2))
    torch.testing.assert_close(x_t**2 + v**2, x0**2 + eps**2, **TIGHT)


def test_unknown_kinds_are_errors():
    with pytest.raises(LdmError):
        x0_and_eps("noise", number(1), number(1), LEVEL)
    with pytest.raises(LdmError):
        training_target("noise", number(1), number(1), ALPHA_BAR)
