r"""The table of contents, and everything that takes its order from it."""

from pathlib import Path

import pytest

from ldm.chapters import APPENDICES, CHAPTERS, contents, headings, reading_order

REPOSITORY = Path(__file__).resolve().parents[1]


def test_no_module_is_in_two_chapters():
    assert len(set(reading_order())) == len(reading_order())


def test_every_notebook_is_beside_one_chapter_and_the_chapters_are_few():
    notebooks = [name for chapter in (*CHAPTERS, *APPENDICES) for name in chapter.notebooks]
    assert sorted(notebooks) == sorted(file.stem for file in (REPOSITORY / "notebooks").glob("[0-9]*.py"))
    assert len(CHAPTERS) <= 10
    assert all(chapter.notebooks for chapter in CHAPTERS)


def test_chapters_are_numbered_and_appendices_lettered():
    found = [heading.partition(". ")[0] for heading, _ in headings()]
    assert found[: len(CHAPTERS)] == [str(i) for i in range(len(CHAPTERS))]
    assert found[len(CHAPTERS) :][:3] == ["A", "B", "C"]


def test_the_readme_has_the_table_of_contents_as_it_is():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert contents() in readme, "paste what `python -m ldm.chapters` prints into README.md"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.title)
def test_a_goal_goes_on_after_you_can(chapter):
    assert chapter.goal[0].islower() and not chapter.goal.endswith(".")
