r"""Sheets: every picture in its place, with its words."""

import numpy as np
from PIL import Image

from ldm.lab.evaluate.sheets import captioned, similarity_grid, titled_rows


def flat(colour: str, size: int = 16) -> Image.Image:
    return Image.new("RGB", (size, size), colour)


def test_a_title_stands_over_each_row():
    sheet = titled_rows(["one", "two"], [[flat("red"), flat("blue")], [flat("lime")]])
    assert sheet.size == (2 * 22 + 6, 2 * 42 + 6)
    assert sheet.getpixel((6, 26)) == (255, 0, 0) and sheet.getpixel((28, 41)) == (0, 0, 255)
    assert sheet.getpixel((21, 68 + 15)) == (0, 255, 0) and sheet.getpixel((28, 68 + 15)) == (255, 255, 255)
    for top in (0, 42):
        assert np.asarray(sheet)[top : top + 26].min() < 100  # ink


def test_a_captioned_sheet_has_each_picture_over_its_words():
    images = [flat("red", 64), flat("lime", 64), flat("blue", 64)]
    sheet = captioned(images, ["a red one", "", "a blue one"], columns=2)
    wide, high = 64 + 6, 64 + 6 * 14 + 6
    assert sheet.size == (2 * wide + 6, 2 * high + 6)
    assert sheet.getpixel((6, 6)) == (255, 0, 0) and sheet.getpixel((6 + wide, 6)) == (0, 255, 0)
    assert sheet.getpixel((6, 6 + high)) == (0, 0, 255)
    words = np.asarray(sheet)[6 + 64 : high, :]
    assert words[:, 6:70].min() < 128 and words[:, 6 + wide :].min() == 255


def test_in_the_grid_a_pair_is_the_brighter_the_higher_its_cosine():
    cosines = np.array([[0.9, 0.1], [0.2, 0.8]])  # [picture, caption]
    sheet = similarity_grid([flat("red"), flat("blue")], ["red", "blue"], cosines, cell=96)
    assert sheet.size == (260 + 2 * 96, 3 * 96)
    assert sheet.getpixel((260 + 10, 10)) == (255, 0, 0) and sheet.getpixel((260 + 96 + 10, 10)) == (
        0,
        0,
        255,
    )
    corners = [[sheet.getpixel((260 + 96 * c + 2, 96 * (r + 1) + 2))[0] for c in range(2)] for r in range(2)]
    assert corners == [[255, 32], [0, 223]]  # 255 (0.2 - 0.1) / 0.8 = 32, and 255 (0.8 - 0.1) / 0.8 = 223
