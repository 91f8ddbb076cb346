r"""Inpainting: which latents are repainted, what is restored, what an inpainting model reads."""

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.diffusion.level import CLEAN, Level
from ldm.inpaint import keep, mask_channel, masked_image, repaint_mask


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
    repaint = repaint_mask(mask, 4)
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


def test_the_masked_region_is_grey_and_the_rest_of_the_image_stays(draw):
    mask = Image.new("L", (3, 2))
    mask.putpixel((2, 0), 255)  # x = 2, y = 0
    pixels = draw(2, 3, 2, 3)
    left = masked_image(pixels, mask)
    assert (left[:, :, 0, 2] == 0).all()
    left[:, :, 0, 2] = pixels[:, :, 0, 2]
    assert torch.equal(left, pixels)


def test_an_inpainting_model_reads_the_first_pixel_of_each_latent_of_the_mask():
    mask = Image.new("L", (12, 8), 255)  # 3 x 2 latents of 4 x 4 pixels
    for at in ((0, 0), (8, 4), (5, 1)):  # two first pixels, and one in the middle
        mask.putpixel(at, 0)
    read = mask_channel(mask, 4)
    assert read.tolist() == [[[[0, 1, 1], [1, 1, 0]]]] and read.dtype == torch.float32
