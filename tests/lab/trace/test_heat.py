r"""Attention, drawn: it glows where the weight is."""

import numpy as np
import torch
from PIL import Image

from ldm.lab.trace.film import MARGIN
from ldm.lab.trace.heat import attention_sheet, normalized, overlay


def x_0_to_1_and_a_flat_one_is_dark():
    heat = torch.tensor([[0.02, 0.03], [0.04, 0.06]])
    torch.testing.assert_close(normalized(heat), torch.tensor([[0.0, 0.25], [0.5, 1.0]]))
    assert normalized(torch.full((2, 2), 0.3)).max() == 0


def test_the_overlay_glows_where_the_weight_is_and_is_dark_grey_where_it_is_not():
    heat = torch.zeros(8, 8)
    heat[:, 6:] = 0.1
    seen = np.asarray(overlay(Image.new("RGB", (64, 32), (100, 100, 100)), heat)).astype(int)
    assert (seen[:, :32] == 60).all()  # 0.6 * 100, no colour
    bright = seen[:, 58:]
    assert bright.shape[0] == 32 and bright.mean() > 150 and (bright[..., 0] > bright[..., 2]).all()


def test_the_overlay_does_not_depend_on_the_scale_of_the_weights(draw):
    heat, image = draw(6, 6).abs(), Image.new("RGB", (48, 48), "teal")
    a, b = (np.asarray(overlay(image, x)).astype(int) for x in (heat, 1e-3 * heat))
    assert np.abs(a - b).max() <= 1


def test_the_sheet_has_a_cell_for_the_image_and_one_for_each_word(recorded):
    recording, images = recorded
    sheet = attention_sheet(recording, 0, images[0], columns=2, side=96)
    # Two words and the image: two rows of two cells, the last one empty.
    assert sheet.width >= 2 * MARGIN + 2 * 96 and sheet.height > 2 * 64
    other = attention_sheet(recording, 1, images[1], columns=2, side=96)
    assert sheet.size == other.size and (np.asarray(sheet) != np.asarray(other)).any()
    recording.words = []
    assert attention_sheet(recording, 0, images[0], side=96).height < sheet.height
