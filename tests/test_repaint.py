r"""Beginning with a picture: which steps are left, which latents are repainted, what is put back."""

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.diffusion.level import CLEAN, Level
from ldm.diffusion.spacing import spaced_timesteps
from ldm.errors import LdmError
from ldm.repaint import keep, latents_to_repaint, levels_left, pick_strength, to_read, without

PICTURE = Image.new("RGB", (8, 8))


def levels(steps: int) -> list[Level]:
    return [*(Level(t, 0.6, 0.8) for t in spaced_timesteps(steps, 1000)), CLEAN]


def first(steps: int, strength: float) -> tuple[int, int]:
    left = levels_left(levels(steps), strength)
    return len(left) - 1, left[0].t


@pytest.mark.parametrize(
    ("steps", "strength", "expected"),
    [
        # 20 steps are t = 951, 901, ..., 51, 1.
        (20, 1.0, (20, 951)),
        (20, 0.75, (15, 701)),
        (20, 0.79, (15, 701)),  # 15.8 is rounded down
        (20, 0.05, (1, 1)),
        (50, 0.8, (40, 781)),
        (1, 1.0, (1, 1)),
    ],
)
def test_the_levels_left_by_hand(steps, strength, expected):
    assert first(steps, strength) == expected


def test_the_levels_left_are_the_last_ones_in_order():
    steps = levels(4)
    assert levels_left(steps, 0.5) == steps[2:] and [level.t for level in steps[2:]] == [251, 1, 0]


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.01, float("nan"), float("inf")])
def test_a_strength_outside_0_to_1_is_an_error(strength):
    with pytest.raises(LdmError, match=r"expected more than 0 \(unchanged\), at most 1 \(all new\)"):
        first(20, strength)


def test_a_strength_that_leaves_no_step_is_an_error_whose_advice_works():
    with pytest.raises(LdmError, match=r"0\.04 leaves none of 20 steps; give at least 0\.05, or more steps"):
        first(20, 0.04)
    for steps in range(1, 1000):
        if steps > 1:
            with pytest.raises(LdmError, match="leaves none") as caught:
                first(steps, 0.5 / steps)
            advice = float(str(caught.value).split("at least ")[1].split(",")[0])
            assert first(steps, advice)[0] >= 1


@pytest.mark.parametrize(
    ("init", "strength", "mask", "expected"),
    [
        (None, None, None, 1.0),
        (PICTURE, None, None, 0.75),
        (PICTURE, None, PICTURE, 1.0),
        (PICTURE, 0.3, None, 0.3),
        (PICTURE, 0.3, PICTURE, 0.3),
    ],
)
def test_the_usual_strength(init, strength, mask, expected):
    assert pick_strength(init, strength, mask, keep_pixels=False) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, None, PICTURE, False), "a mask, but no picture to begin with; expected `init`"),
        ((None, 0.5, None, False), "a strength of 0.5, but no picture to begin with; expected `init`"),
        ((None, None, None, True), "pixels to keep, but no mask; expected `mask`"),
        ((PICTURE, None, None, True), "pixels to keep, but no mask; expected `mask`"),
    ],
)
def test_an_option_without_what_it_belongs_to_is_an_error(given, message):
    with pytest.raises(LdmError, match=message):
        pick_strength(*given)


@pytest.mark.parametrize(
    ("white", "expected"),
    [
        ([(0, 0)], [(0, 0)]),
        ([(7, 3)], [(1, 0)]),  # x = 7, y = 3: the last pixel of the second latent in the first row
        ([(8, 3), (0, 4)], [(0, 1), (2, 0)]),
        ([(11, 7)], [(2, 1)]),
    ],
)
def test_one_white_pixel_is_enough_for_its_latent_and_for_no_other(white, expected):
    mask = Image.new("L", (12, 8))  # 3 x 2 latents of 4 x 4 pixels
    for at in white:
        mask.putpixel(at, 255)
    repaint = latents_to_repaint(mask, 4)
    assert repaint.shape == (1, 1, 2, 3) and repaint.dtype == torch.bool
    found = [(x, y) for y, x in np.argwhere(repaint[0, 0].numpy())]
    assert sorted(found) == sorted(expected)


def test_what_is_put_back_by_hand(draw):
    r"""x0 = 2, eps = 3: 0.8 * 2 + 0.6 * 3 = 3.4 at the first level, 2 at a clean one. Repainted latents stay."""
    ones = torch.ones(2, 4, 1, 2, dtype=torch.float64)
    restore = keep(2 * ones, 3 * ones, torch.tensor([[[[True, False]]]]))
    x = draw(2, 4, 1, 2)
    before = x.clone()
    for level, expected in ((Level(300, 0.8, 0.6), 3.4), (CLEAN, 2.0)):
        out = restore(x, level)
        assert torch.equal(out[..., 0], x[..., 0])
        torch.testing.assert_close(out[..., 1], torch.full_like(out[..., 1], expected), rtol=0, atol=1e-15)
    assert torch.equal(x, before)


def test_at_no_noise_the_pictures_latent_comes_back_to_the_bit(draw):
    x0, eps, x = draw(1, 4, 2, 2).float(), draw(1, 4, 2, 2).float(), draw(1, 4, 2, 2).float()
    restore = keep(x0, eps, torch.zeros(1, 1, 2, 2, dtype=torch.bool))
    assert torch.equal(restore(x, CLEAN), x0)


def test_a_nan_in_what_is_thrown_away_does_no_harm(draw):
    x0, eps, x = draw(1, 4, 2, 2), draw(1, 4, 2, 2), torch.full((1, 4, 2, 2), torch.nan).double()
    restore = keep(x0, eps, torch.zeros(1, 1, 2, 2, dtype=torch.bool))
    assert restore(x, Level(300, 0.8, 0.6)).isfinite().all()


def test_a_hole_is_grey_and_the_rest_of_the_picture_stays(draw):
    mask = Image.new("L", (3, 2))
    mask.putpixel((2, 0), 255)  # x = 2, y = 0
    pixels = draw(2, 3, 2, 3)
    left = without(pixels, mask)
    assert (left[:, :, 0, 2] == 0).all()
    left[:, :, 0, 2] = pixels[:, :, 0, 2]
    assert torch.equal(left, pixels)


def test_an_inpainting_model_reads_the_first_pixel_of_each_latent_of_the_mask():
    mask = Image.new("L", (12, 8), 255)  # 3 x 2 latents of 4 x 4 pixels
    for at in ((0, 0), (8, 4), (5, 1)):  # two first pixels, and one in the middle
        mask.putpixel(at, 0)
    read = to_read(mask, 4)
    assert read.tolist() == [[[[0, 1, 1], [1, 1, 0]]]] and read.dtype == torch.float32
