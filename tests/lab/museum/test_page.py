r"""The museum's page: every mistake is shown, no picture is without a mistake, and the page is what was measured."""

import runpy

import pytest
from PIL import Image

from ldm.lab.museum.rooms import MISTAKES
from ldm.lab.museum.symptoms import SYMPTOMS
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
MUSEUM = runpy.run_path(str(DOCS / "museum.py"))
PAGE = (DOCS / "museum.md").read_text(encoding="utf-8")
STRIPS = sorted((DOCS / "museum").glob("*.webp"))
LIMIT = 1_500_000  # bytes of all pictures together


def test_every_mistake_is_shown_and_no_picture_is_without_a_mistake():
    numbers = {mistake.number for mistake in MISTAKES}
    assert {path.stem for path in STRIPS} == numbers == set(MUSEUM["read"]())
    for number in numbers:
        assert PAGE.count(f"](museum/{number}.webp)") == PAGE.count(f"### {number}. ") == 1, number


def test_the_page_is_what_the_list_and_the_measurements_give():
    assert MUSEUM["page"](MUSEUM["read"]()) == PAGE, "make museum ARGS=page writes the page again"


def test_the_pictures_are_small_and_of_one_height():
    assert sum(path.stat().st_size for path in STRIPS) < LIMIT
    for path in STRIPS:
        with Image.open(path) as image:
            assert image.height == 128 and image.width in (260, 392), path.name


def test_every_symptom_that_is_measured_has_a_heading_that_the_contents_lead_to():
    for name in {exhibit.symptom for exhibit in MUSEUM["read"]().values()}:
        title = SYMPTOMS[name]
        assert f"## {title[:1].upper()}{title[1:]}\n" in PAGE and f"](#{MUSEUM['anchor'](title)})" in PAGE


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.number)
def test_the_page_names_a_test_that_notices(mistake):
    entry = PAGE[PAGE.index(f"### {mistake.number}. ") :].split("\n### ")[0]
    assert "**Caught by**" in entry
