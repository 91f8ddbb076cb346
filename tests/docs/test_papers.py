r"""Citations by name and year, and the bibliography they lead to."""

from pathlib import Path

import pytest

from annotated.papers import find_citations, normal_label, read_papers
from annotated.rows import split_rows

REPOSITORY = Path(__file__).resolve().parents[2]
PAPERS = read_papers(REPOSITORY / "docs" / "papers.bib")


@pytest.mark.parametrize(
    ("names", "label"),
    [
        ("Shazeer", "Shazeer 2020"),
        ("Ho & Salimans", "Ho & Salimans 2020"),
        ("Ho and Salimans", "Ho & Salimans 2020"),
        ("Ho et al.", "Ho et al. 2020"),
        ("Ho, Jain & Abbeel", "Ho et al. 2020"),
        ("Sennrich, Haddow and Birch", "Sennrich et al. 2020"),
    ],
)
def test_however_a_paper_is_cited_it_has_one_label(names, label):
    assert normal_label(names, "2020") == label


def test_citations_are_found_in_running_text_and_months_are_none():
    text = "Ho et al.\n2020, eq. 4, and Kingma & Welling (2014); since May 2022, He et al. 2016b. In 2021 CLIP came."
    assert [label for _, label in find_citations(text)] == [
        "Ho et al. 2020",
        "Kingma & Welling 2014",
        "He et al. 2016b",
    ]


def test_every_paper_that_is_cited_in_the_source_or_on_a_page_is_in_the_bibliography():
    sources = [
        (file, piece.prose or "")
        for file in (REPOSITORY / "ldm").rglob("*.py")
        for row in split_rows(file.read_text(encoding="utf-8"))
        for piece in row.prose
    ]
    pages = [(file, file.read_text(encoding="utf-8")) for file in (REPOSITORY / "docs").rglob("*.md")]
    for file, text in sources + pages:
        for match, label in find_citations(text):
            assert label in PAPERS, (
                f"{file.relative_to(REPOSITORY)}: {match.group()!r} is not in docs/papers.bib"
            )


def test_keys_are_unique_and_addresses_are_complete():
    assert len({paper.key for paper in PAPERS.values()}) == len(PAPERS)
    assert all(paper.url.startswith("https://") and paper.venue for paper in PAPERS.values())


def test_two_papers_of_one_label_are_refused(tmp_path):
    entry = "@misc{%s,\n  author = {Ho, A},\n  title = {T},\n  year = {2020},\n  url = {https://a},\n}\n"
    (tmp_path / "p.bib").write_text(entry % "one" + entry % "two", encoding="utf-8")
    with pytest.raises(ValueError, match="two and one are both 'Ho 2020'"):
        read_papers(tmp_path / "p.bib")


def test_an_entry_without_a_field_is_refused(tmp_path):
    (tmp_path / "p.bib").write_text(
        "@misc{one,\n  author = {Ho, A},\n  year = {2020},\n}\n", encoding="utf-8"
    )
    with pytest.raises(ValueError, match="one lacks title, url"):
        read_papers(tmp_path / "p.bib")
