r"""The built site, page by page, as a browser without a network would meet it. Run by `make test-docs`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from annotated.names import read_names
from annotated.rows import split_rows

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.docs

VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
NOT_PROSE = {"code", "pre", "script", "style", "annotation", "svg"}


@dataclass
class Page(HTMLParser):
    """What a browser finds in a page: addresses that it loads, links, anchors, prose, and numbered lines of code."""

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    prose: list[str] = field(default_factory=list)
    code: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self.inside: list[tuple[str, int | None]] = []  # open tags, each with the line of code that it begins

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attributes}
        if "id" in named:
            self.ids.add(named["id"])
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        elif tag == "link" and named.get("rel") not in ("index", "search", "next", "prev"):
            self.loads.append(named["href"])
        self.loads += [named[name] for name in ("src", "srcset", "poster", "data") if named.get(name)]
        line = int(named["id"][1:]) if named.get("class") == "line" else None
        if line is not None:
            self.code[line] = ""
        if tag not in VOID:
            self.inside.append((tag, line))

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for line in [line for _, line in self.inside if line is not None]:
            self.code[line] += data
        if not NOT_PROSE & {tag for tag, _ in self.inside}:
            self.prose.append(data)


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    pages = {}
    for file in sorted(site.rglob("*.html")):
        pages[file] = Page()
        pages[file].feed(file.read_text(encoding="utf-8"))
    return pages


def test_every_module_has_its_page_and_its_code_is_the_file(site, pages):
    for module in read_names(REPOSITORY).pages:
        source = (REPOSITORY / module.path).read_text(encoding="utf-8")
        lines = dict(enumerate(source.splitlines(keepends=True), start=1))
        shown = pages[site / f"{module.page}.html"].code
        assert shown == {n: lines[n] for n in shown}, module.path
        # What is not shown as code is prose, or blank lines around it.
        prose = {n for row in split_rows(source) for p in row.prose for n in range(p.start, p.stop)}
        assert {n for n, line in lines.items() if line.strip()} - prose <= shown.keys(), module.path
        assert not prose & shown.keys(), module.path


def test_a_module_leads_to_the_notebooks_that_use_it(pages):
    [page] = [page for path, page in pages.items() if str(path).endswith("ldm/text/bpe.html")]
    assert any(link.endswith("notebooks/01_tokenizer.html") for link in page.links)


def test_no_page_loads_anything_from_a_network(site, pages):
    for file, page in pages.items():
        assert not [a for a in page.loads if re.match(r"(https?:)?//", a)], file
    for file in site.rglob("*.css"):
        text = file.read_text(encoding="utf-8")
        assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)]*", text), file


def broken_links(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    for file, page in pages.items():
        for link in page.links:
            address, anchor = urldefrag(unquote(link))
            if re.match(r"[a-z]+:", address):
                continue
            target = (file.parent / address).resolve() if address else file
            if not target.exists():
                yield f"{file.relative_to(site)}: {link}"
            elif anchor and target in pages and anchor not in pages[target].ids:
                yield f"{file.relative_to(site)}: {link} (no such anchor)"


def test_every_link_within_the_site_leads_somewhere(site, pages):
    assert list(broken_links(site, pages)) == []


def test_a_french_page_says_that_it_is_french_and_where_its_english_half_is(site, pages):
    french, english = (
        (site / "docs" / name).read_text(encoding="utf-8") for name in ("fr/tour.html", "tour.html")
    )
    assert '<html class="no-js" lang="fr"' in french and 'hreflang="en" href="../tour.html"' in french
    assert '<html class="no-js" lang="en"' in english and 'hreflang="fr" href="fr/tour.html"' in english
    prose = "".join(pages[site / "docs" / "fr" / "tour.html"].prose)
    prose = prose.replace("ldm : la diffusion", "")  # the title of the tab, which is never broken
    assert not re.findall(r" [:;!?»]|« ", prose)  # none of these spaces may break
    assert "Sur cette page" in prose
    assert "Haut de la page" in prose and "la diffusion latente, à lire" in prose
    assert not re.findall(r"Back to top|Toggle (?!navigation)|Link to this", french)


def test_no_formula_is_left_as_it_was_written(pages):
    for file, page in pages.items():
        assert not re.findall(r"\$[^$\n]+\$|\\(?:frac|sqrt|bar|alpha|hat)", "".join(page.prose)), file


def test_the_front_page_leads_to_every_chapter_and_to_the_list_of_all_modules(site, pages):
    front, source = (
        {
            (site / "docs" / unquote(urldefrag(a)[0])).resolve()
            for a in pages[site / "docs" / f"{name}.html"].links
        }
        for name in ("index", "source")
    )
    names = read_names(REPOSITORY)
    assert site / "docs" / "source.html" in front
    for _, modules in names.chapters():
        assert any(site / f"{names.modules[module].page}.html" in front for module in modules)
    for module in names.modules.values():
        assert site / f"{module.page}.html" in source


MISTAKES = {
    "formula": ("$\\alpfa_t$", "Undefined control sequence: \\alpfa"),
    "reference": ("`ldm.nowhere`", "'ldm.nowhere' names nothing that is there"),
    "link": ("[a link](nowhere.md)", "cross-reference target not found: 'nowhere.md'"),
    "anchor": ("[a link](../ldm/__init__.py#gone)", "local id not found in doc 'ldm/__init__': 'gone'"),
    "citation": ("Nobody et al. 2020", "'Nobody et al. 2020' is not in papers.bib"),
    "equation": ("$$a = b$$", "no test evaluates 'a = b'"),
    "term": ("{term}`unheard of`", "term not in glossary: 'unheard of'"),
}


def test_each_mistake_fails_the_build_and_is_named_with_its_line(build, tmp_path):
    source = tmp_path / "source"
    (source / "docs").mkdir(parents=True)
    (source / "ldm").mkdir()
    (source / "docs" / "papers.bib").write_text("", encoding="utf-8")
    (source / "docs" / "bibliography.md").write_text("# Bibliography\n\n```{papers}\n```\n", encoding="utf-8")
    (source / "ldm" / "__main__.py").write_text('"""Run."""\n', encoding="utf-8")
    (source / "ldm" / "__init__.py").write_text("", encoding="utf-8")
    (source / "ldm" / "chapters.py").write_text(
        "from ldm.chapters import Chapter\n\n\ndef headings():\n"
        '    return [("1. All", Chapter("", "", ("chapters", "one")))]\n',
        encoding="utf-8",
    )
    module = 'x = 1\n\n\ndef f():\n    r"""Prose.\n\n    A formula in a docstring: $\\alpfa$.\n    """\n'
    (source / "ldm" / "one.py").write_text(module, encoding="utf-8")
    lines = ["# Page", "", "```{toctree}", "bibliography", "```", "", "```{chapters}", "```"]
    for mistake, _ in MISTAKES.values():
        lines += ["", mistake]
    (source / "docs" / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")

    result = build(source, tmp_path / "out")
    assert result.returncode != 0
    for number, (kind, (_, message)) in enumerate(MISTAKES.items()):
        [found] = [w for w in result.stderr.splitlines() if message in w and "index.md" in w]
        assert f"docs/index.md:{10 + 2 * number}: WARNING" in found, kind
    assert re.search(r"ldm/one\.py:7: WARNING: formula", result.stderr)  # the file's own line
    assert len(re.findall("WARNING", result.stderr)) == len(MISTAKES) + 1, result.stderr
