r"""Papers: `papers.bib` read, sorted and shown, and every "Ho et al. 2020" in the prose a link to its entry.

Docstrings cite as people do, by names and year, so that they read the same in an editor. On the site each such
mention is looked up; one that is in no entry is a warning, so an unknown or misspelt citation fails the build.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BIBLIOGRAPHY = "docs/bibliography"
NAME = r"[A-Z][\w'’-]*[a-z]\w*"
SEVERAL = rf"{NAME}(?:,\s+{NAME})*(?:,?\s+(?:&|and)\s+{NAME}|\s+et\s+al\.)"
# "Ho et al. (2020)", "Ho & Salimans 2022", but of a single name only "Shazeer 2020": too much else looks like that.
CITATION = re.compile(
    rf"(?P<names>{SEVERAL}(?=(?:['’]s)?,?\s+\(?\d)|{NAME}(?=\s+\d))(?:['’]s)?,?\s+"
    r"(?P<open>\()?(?P<year>(?:19|20)\d\d[a-z]?)\b(?(open)\)?)"
)
# Words that stand before a year and have written nothing.
NOT_AUTHORS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    *("November", "December", "In", "Since", "By", "Until", "From", "Before", "After", "During", "Around"),
)


@dataclass(frozen=True)
class Paper:
    key: str
    authors: tuple[str, ...]  # "Ho, Jonathan"
    title: str
    year: str  # with a letter where a name and a year are not enough: 2016b
    venue: str
    url: str

    @property
    def label(self) -> str:
        r"""As it is cited: "Shazeer 2020", "Ho & Salimans 2022", "Ho et al. 2020"."""
        return f"{join_names([name.split(',')[0] for name in self.authors])} {self.year}"


def join_names(surnames: list[str]) -> str:
    if len(surnames) > 2:
        return f"{surnames[0]} et al."
    return " & ".join(surnames)


def normal_label(names: str, year: str) -> str:
    r"""However a citation is written, the label of its paper: "Ho, Jain and Abbeel", "2020" -> "Ho et al. 2020"."""
    names = " ".join(names.split())
    if names.endswith("et al."):
        return f"{names.removesuffix('et al.').split(',')[0].strip()} et al. {year}"
    return f"{join_names(re.split(r',? (?:&|and) |, ', names))} {year}"


def find_citations(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Every citation in a text, with its paper's label."""
    for match in CITATION.finditer(text):
        if match["names"].split()[0] not in NOT_AUTHORS:
            yield match, normal_label(match["names"], match["year"])


def read_papers(file: Path) -> dict[str, Paper]:
    """The entries of a BibTeX file, by label. Raises `ValueError` for two papers with one label, or a missing field."""
    papers: dict[str, Paper] = {}
    text = file.read_text(encoding="utf-8")
    for entry in re.finditer(
        r"^@\w+\{(?P<key>[^,]+),\n(?P<fields>.*?)^\}", text, flags=re.DOTALL | re.MULTILINE
    ):
        fields = dict(re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", entry["fields"], flags=re.MULTILINE))
        venue = fields.get("booktitle") or fields.get("journal") or fields.get("howpublished", "")
        missing = {"author", "title", "year", "url"} - fields.keys()
        if missing:
            raise ValueError(f"{file.name}: {entry['key']} lacks {', '.join(sorted(missing))}")
        authors, title = tuple(fields["author"].split(" and ")), re.sub(r"[{}]", "", fields["title"])
        year = fields["year"] + fields.get("label_suffix", "")
        paper = Paper(entry["key"], authors, title, year, venue, fields["url"])
        if paper.label in papers:
            raise ValueError(
                f"{file.name}: {paper.key} and {papers[paper.label].key} are both {paper.label!r}"
            )
        papers[paper.label] = paper
    return papers
