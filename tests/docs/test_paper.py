r"""Pictures on white get a transparent background; what is a picture in them stays as it is."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from annotated.paper import INK, without_paper


@pytest.fixture
def sheet():
    r"""A title, two pictures (one with a white corner) and a thin blue line on white."""
    image = Image.new("RGB", (200, 120), "white")
    draw = ImageDraw.Draw(image)
    draw.line((20, 12, 90, 12), "black", 2)
    draw.rectangle((20, 30, 69, 79), "orange")
    draw.rectangle((110, 30, 159, 79), "teal")
    draw.rectangle((110, 30, 121, 41), "white")
    draw.line((20, 100, 180, 100), "blue", 2)
    return image


def test_paper_becomes_transparent_and_letters_grey(sheet):
    cleared = np.asarray(without_paper(sheet))
    assert cleared[5, 5, 3] == 0 and cleared[55, 90, 3] == 0
    assert cleared[12, 50].tolist() == [*INK, 255]
    assert cleared[100, 60].tolist() == [0, 0, 255, 255]


def test_pictures_stay_as_they_are_even_where_they_are_white(sheet):
    cleared, before = np.asarray(without_paper(sheet)), np.asarray(sheet)
    for left in (20, 110):
        part = np.s_[30:80, left : left + 50]
        assert (cleared[part][..., :3] == before[part]).all() and (cleared[part][..., 3] == 255).all()


def test_on_white_it_looks_as_before_but_for_the_ink(sheet):
    cleared = without_paper(sheet)
    page = Image.new("RGBA", cleared.size, "white")
    page.alpha_composite(cleared)
    differs = np.abs(np.asarray(page.convert("RGB")).astype(int) - np.asarray(sheet)).max(axis=-1) > 2
    assert set(np.flatnonzero(differs.any(axis=1)).tolist()) <= {11, 12, 13}  # the title's rows


def test_a_picture_that_reaches_the_edge_is_left_alone():
    assert without_paper(Image.new("RGB", (40, 40), "orange")) is None


def test_a_mask_that_is_mostly_white_on_one_side_stays_black_and_white():
    sheet = Image.new("RGB", (200, 160), "white")
    sheet.paste("black", (20, 20, 148, 148))
    sheet.paste("white", (36, 20, 132, 72))
    cleared = np.asarray(without_paper(sheet))
    assert cleared[40, 26].tolist() == [0, 0, 0, 255]  # a strip at its side
    assert cleared[40, 80].tolist() == [255, 255, 255, 255]  # what may change
    assert cleared[40, 170, 3] == cleared[8, 80, 3] == 0  # the paper around it
