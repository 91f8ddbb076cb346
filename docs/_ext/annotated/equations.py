r"""Which test evaluates which displayed equation: a test quotes in its docstring the equations that it computes.

The quotation is the link: a page's equation is looked up, letter by letter, among those that the tests of
`tests/equations/` quote. So an equation cannot be changed on its page without the test being looked at, and no labels
have to be kept apart. An equation that no code computes is quoted in `docs/equations.md` instead, with the reason.

Python's standard library is all this needs; `checked.py` puts the links on the pages.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from annotated.rows import split_rows

TESTS = "tests/equations"
EXPLAINED = "docs/equations.md"
DISPLAYED = re.compile(r"\$\$(.+?)\$\$", flags=re.DOTALL)


@dataclass(frozen=True)
class Place:
    """Where an equation stands, or where its test does: a page, an anchor on it, what the link says, and the file's
    line."""

    page: str
    anchor: str
    text: str
    line: int


@dataclass(frozen=True)
class Equations:
    """All of them, by `normal_form`."""

    places: dict[str, list[Place]]  # on the pages
    tests: dict[str, list[Place]]
    reasons: dict[str, str]  # of those without a test

    def without_test(self) -> Iterator[tuple[str, Place]]:
        """Those that are neither evaluated nor excused, each with a place where it stands."""
        for formula, places in self.places.items():
            if formula not in self.tests and formula not in self.reasons:
                yield formula, places[0]


def normal_form(formula: str) -> str:
    """Lines may be broken elsewhere; nothing else may differ."""
    return " ".join(formula.split())


def quoted(text: str, first_line: int = 1) -> Iterator[tuple[str, int]]:
    """The displayed equations of a text, with their lines."""
    for match in DISPLAYED.finditer(text):
        yield normal_form(match[1]), first_line + text.count("\n", 0, match.start())


def read_equations(root: Path) -> Equations:
    places: dict[str, list[Place]] = {}
    for formula, place in [*_in_modules(root), *_in_pages(root)]:
        places.setdefault(formula, []).append(place)
    tests: dict[str, list[Place]] = {}
    for formula, place in _in_tests(root):
        tests.setdefault(formula, []).append(place)
    return Equations(places, tests, read_reasons(root / EXPLAINED))


def _in_modules(root: Path) -> Iterator[tuple[str, Place]]:
    for file in sorted((root / "ldm").rglob("*.py")):
        page = file.relative_to(root).with_suffix("").as_posix()
        module = page.removesuffix("/__init__").replace("/", ".")
        for row in split_rows(file.read_text(encoding="utf-8")):
            name = row.names[0] if row.names else ""
            for piece in row.prose:
                for formula, line in quoted(piece.prose or "", piece.start):
                    yield formula, Place(page, name, ".".join(filter(None, (module, name))), line)


def _in_pages(root: Path) -> Iterator[tuple[str, Place]]:
    for file in sorted((root / "docs").rglob("*.md")):
        text, path = file.read_text(encoding="utf-8"), file.relative_to(root).as_posix()
        if path == EXPLAINED:
            continue
        title = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
        for formula, line in quoted(_without_code(text)):
            yield formula, Place(path.removesuffix(".md"), "", title[1] if title else path, line)


def _in_tests(root: Path) -> Iterator[tuple[str, Place]]:
    for file in sorted((root / TESTS).glob("test_*.py")):
        page = file.relative_to(root).with_suffix("").as_posix()
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for formula, _ in quoted(ast.get_docstring(node) or ""):
                    yield formula, Place(page, node.name, node.name, node.lineno)


def read_reasons(file: Path) -> dict[str, str]:
    """The equations of a page, each with the paragraph after it."""
    text = _without_code(file.read_text(encoding="utf-8")) if file.exists() else ""
    reasons = {}
    for match in DISPLAYED.finditer(text):
        after = DISPLAYED.split(text[match.end() :], maxsplit=1)[0]
        reasons[normal_form(match[1])] = normal_form(re.split(r"\n\s*\n", after.strip(), maxsplit=1)[0])
    return reasons


def _without_code(text: str) -> str:
    """A Markdown page with its fenced blocks emptied, line for line."""
    return re.sub(
        r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE
    )
