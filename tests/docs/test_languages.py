r"""The French pages and the English ones say the same things in the same order; every label has its French."""

import ast
import re
import unicodedata
from pathlib import Path

import pytest

from annotated.diagrams import DIAGRAMS
from annotated.languages import FRENCH, french_terms, language, other_half, teller

DOCS = Path(__file__).resolve().parents[2] / "docs"
# The English page and the French one.
TOURS, EXTENSIONS = (
    [(DOCS / folder / name).read_text(encoding="utf-8") for folder in ("", "fr")]
    for name in ("tour.md", "extensions.md")
)
USED_BY = {"unet": ["sd1"], "vae": ["sd1"], "tokens": ["a dog"]}  # an argument, where a diagram takes one


def prose(tour: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```python\n.*?^```", "", tour, flags=re.DOTALL | re.MULTILINE)


def sections(tour: str) -> list[str]:
    """How deep each heading is, and its number."""
    return re.findall(r"^(#+ (?:\d\.)?)", prose(tour), flags=re.MULTILINE)


def figures(tour: str) -> list[str]:
    """Directives with their names (diagrams with what they draw), and pictures (of the prompts: in either language)."""
    directive, picture = (
        r"^```\{(\w+)\}(?: (\w+(?: (?:sd1|tiny))?))?",
        r"\]\((?:\.\./)?images/([\w-]+?)(?:-fr)?\.png\)",
    )
    return re.findall(f"{directive}|{picture}", tour, flags=re.MULTILINE)


def formulas(tour: str) -> list[str]:
    return re.findall(r"\$\$.+?\$\$", tour, flags=re.DOTALL)


def code(tour: str) -> list[str]:
    """Each block as Python sees it, without comments and with nothing in its strings."""
    trees = [ast.parse(block) for block in re.findall(r"```python\n(.*?)```", tour, flags=re.DOTALL)]
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                node.value = ""
    return [ast.dump(tree) for tree in trees]


def links(tour: str) -> list[str]:
    """Where the page leads, in order, seen from `docs/`."""
    found = re.findall(r"\]\(((?:\.\./)*(?:ldm/[\w/.#]+|(?:fr/)?[\w-]+\.md(?:#[\w-]+)?))\)", prose(tour))
    return [link.replace("../ldm", "ldm") for link in found]


def terms(tour: str) -> list[str]:
    """The words of the glossary that the page leads to."""
    found = re.findall(r"\{term\}`(?:[^`<]+<([^>]+)>|([^`]+))`", tour)
    return [" ".join((target or term).split()).casefold() for target, term in found]


def paragraphs(tour: str) -> list[str]:
    """What each block begins with: `**` a name, `*` a caption, a list, or running text."""
    starts = (
        re.match(r"\*\*|\*|-|\d\.|#+|\||`{3}|\$\$|!|\[", block)
        for block in re.split(r"\n\s*\n", prose(tour).strip())
    )
    return [start[0] if start else "text" for start in starts]


@pytest.mark.parametrize("part", [sections, figures, formulas, code, terms, paragraphs])
def test_the_french_tour_has_the_same(part):
    english, french = TOURS
    assert part(french) == part(english) != []


@pytest.mark.parametrize("part", [sections, paragraphs])
def test_the_french_page_on_what_people_built_has_the_same(part):
    english, french = EXTENSIONS
    assert part(french) == part(english) != []


@pytest.mark.parametrize(("pages", "name"), [(TOURS, "tour.md"), (EXTENSIONS, "extensions.md")])
def test_a_french_page_leads_to_the_same_places(pages, name):
    english, french = map(links, pages)
    assert [english.pop(0), french.pop(0)] == [f"fr/{name}", f"../{name}"]  # each to the other
    assert [link.removeprefix("../") for link in french] == english


class Words(dict):
    """Says every label as it is, and remembers it."""

    def __missing__(self, label: str) -> str:
        self[label] = label
        return label


def test_every_label_of_every_diagram_has_its_french_and_none_is_left_over():
    said = Words()
    for name, draw in DIAGRAMS.items():
        draw(said.__getitem__, *USED_BY.get(name, []))
    assert set(said) == set(FRENCH)


@pytest.mark.parametrize("name", DIAGRAMS)
def test_a_french_diagram_differs_from_the_english_one_in_its_words_only(name):
    english, french = (DIAGRAMS[name](teller(code), *USED_BY.get(name, [])) for code in ("en", "fr"))
    assert english != french
    if name != "tokens":  # its boxes are as wide as their words
        drawn = [re.sub(r'>[^<]+</text>|aria-label="[^"]*"', "", picture) for picture in (english, french)]
        assert drawn[0] == drawn[1]


def test_french_placeholders_are_those_of_the_english_label():
    for label, french in FRENCH.items():
        assert set(re.findall(r"{\w+}", french)) == set(re.findall(r"{\w+}", label)), label


def test_a_label_without_french_is_refused():
    with pytest.raises(KeyError, match="a word that nobody translated"):
        teller("fr")("a word that nobody translated")


@pytest.mark.parametrize(
    ("page", "spoken", "other"),
    [
        ("docs/tour", "en", "docs/fr/tour"),
        ("docs/fr/tour", "fr", "docs/tour"),
        ("docs/notation", "en", None),
        ("ldm/config", "en", None),
        ("notebooks/00_tour", "en", "notebooks/00_tour.fr"),
        ("notebooks/00_tour.fr", "fr", "notebooks/00_tour"),
    ],
)
def test_a_page_knows_its_language_and_its_other_half(page, spoken, other):
    pages = {"docs/tour", "docs/fr/tour", "docs/notation", "ldm/config"}
    pages |= {"notebooks/00_tour", "notebooks/00_tour.fr"}
    assert (language(page), other_half(page, pages)) == (spoken, other)


def glossary(page: str, directive: str) -> str:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{{{directive}}}\n(.*?)```", text, flags=re.DOTALL)[0]


def in_order(term: str) -> str:
    """As a dictionary sorts: without accents."""
    return unicodedata.normalize("NFD", term.casefold()).encode("ascii", "ignore").decode()


def test_both_glossaries_explain_the_same_terms_each_in_its_own_order():
    english = re.findall(r"^\S.*", glossary("glossary.md", "glossary"), flags=re.MULTILINE)
    french = french_terms(glossary("fr/glossary.md", "glossaire"))
    assert sorted(french) == sorted(english)
    assert all(len("".join(explained)) > 15 for _, explained in french.values())
    assert [term for term, _ in french.values()] == sorted((t for t, _ in french.values()), key=in_order)


def test_a_french_term_goes_by_its_english_one():
    terms = french_terms("attention\n  Une moyenne.\n\npas de temps (timestep)\n  Un niveau\n  de bruit.")
    assert terms == {
        "attention": ("attention", ["Une moyenne.", ""]),
        "timestep": ("pas de temps", ["Un niveau", "de bruit."]),
    }


@pytest.mark.parametrize("page", sorted(path.name for path in (DOCS / "fr").glob("*.md")))
def test_a_french_page_and_the_english_one_lead_to_each_other(page):
    english, french = ((DOCS / name).read_text(encoding="utf-8") for name in (page, f"fr/{page}"))
    assert f"[Cette page en français](fr/{page})" in english
    assert f"[This page in English](../{page})" in french
