r"""Sheets: every image in its place, with its words."""

import numpy as np
from PIL import Image

from ldm.lab.evaluate.sheets import captioned, paired_rows, titled_rows


def flat(colour: str, size: int = 16) -> Image.Image:
    return Image.new("RGB", (size, size), colour)


def test_a_title_stands_over_each_row():
    sheet = titled_rows(["one", "two"], [[flat("red"), flat("blue")], [flat("lime")]])
    assert sheet.size == (2 * 22 + 6, 2 * 42 + 6)
    assert sheet.getpixel((6, 26)) == (255, 0, 0) and sheet.getpixel((28, 41)) == (0, 0, 255)
    assert sheet.getpixel((21, 68 + 15)) == (0, 255, 0) and sheet.getpixel((28, 68 + 15)) == (255, 255, 255)
    for top in (0, 42):
        assert np.asarray(sheet)[top : top + 26].min() < 100  # ink


def test_a_captioned_sheet_has_each_image_over_its_words():
    images = [flat("red", 64), flat("lime", 64), flat("blue", 64)]
    sheet = captioned(images, ["a red one", "", "a blue one"], columns=2)
    wide, high = 64 + 6, 64 + 6 * 14 + 6
    assert sheet.size == (2 * wide + 6, 2 * high + 6)
    assert sheet.getpixel((6, 6)) == (255, 0, 0) and sheet.getpixel((6 + wide, 6)) == (0, 255, 0)
    assert sheet.getpixel((6, 6 + high)) == (0, 0, 255)
    words = np.asarray(sheet)[6 + 64 : high, :]
    assert words[:, 6:70].min() < 128 and words[:, 6 + wide :].min() == 255


def test_a_sheet_has_each_original_over_its_reconstruction():
    colours = ["red", "lime", "blue"]
    above = [Image.new("RGB", (8, 8), c) for c in colours]
    below = [Image.new("RGB", (8, 8), c) for c in ("cyan", "magenta", "yellow")]
    sheet = paired_rows(above, below, columns=2)
    assert sheet.size == (2 * 12 + 4, 4 * 12 + 4)
    middles = [[sheet.getpixel((8 + 12 * c, 8 + 12 * r)) for c in range(2)] for r in range(4)]
    assert middles[0] == [(255, 0, 0), (0, 255, 0)] and middles[1] == [(0, 255, 255), (255, 0, 255)]
    assert middles[2] == [(0, 0, 255), (255, 255, 255)] and middles[3] == [(255, 255, 0), (255, 255, 255)]
