r"""The latent's channels: colours that mean numbers."""

import numpy as np
import pytest
import torch

from ldm.lab.trace.latents import REACH, channel_image, latent_sheet


def test_zero_is_white_below_is_blue_and_above_is_red():
    zero, low, high = (
        np.asarray(channel_image(torch.full((1, 1), value)))[0, 0].astype(int) for value in (0.0, -1.5, 1.5)
    )
    assert zero.min() > 240
    assert low[2] > low[0] + 50 and high[0] > high[2] + 50


@pytest.mark.parametrize("sign", [-1, 1])
def test_beyond_the_reach_the_colour_stays(sign):
    a, b = (np.asarray(channel_image(torch.full((1, 1), sign * x))) for x in (REACH, 10 * REACH))
    assert (a == b).all()


def test_the_sheet_has_each_channel_at_each_step(recorded):
    recording, images = recorded
    sheet = np.asarray(latent_sheet(recording, 1, images[1], side=96))
    cell = np.asarray(channel_image(recording.steps[-1].x_prev[1, 3]).resize((96, 64), 0))
    found = [
        (y, x)
        for y in range(sheet.shape[0] - 64)
        for x in range(sheet.shape[1] - 96)
        if (sheet[y, x : x + 96] == cell[0]).all() and (sheet[y : y + 64, x : x + 96] == cell).all()
    ]
    assert len(found) == 1 and found[0][0] > 3 * 64  # the finished latent's last channel, in the last row
