r"""Every displayed equation is evaluated by a test, or says why not."""

import ast
from pathlib import Path

import pytest

from annotated.equations import Place, read_equations

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def equations():
    return read_equations(REPOSITORY)


def test_every_displayed_equation_has_its_test_or_a_reason(equations):
    assert [
        f"{place.text}, line {place.line}: {formula}" for formula, place in equations.without_test()
    ] == []
    assert len(equations.tests) > 40


def test_what_a_test_or_a_reason_quotes_is_displayed_somewhere(equations):
    quoted = equations.tests.keys() | equations.reasons.keys()
    assert quoted - equations.places.keys() == set()


def test_no_equation_is_both_evaluated_and_excused_and_each_excuse_is_a_sentence(equations):
    assert equations.tests.keys() & equations.reasons.keys() == set()
    assert [reason for reason in equations.reasons.values() if len(reason.split()) < 5] == []


def test_every_equation_test_quotes_an_equation(equations):
    quoting = {(place.page, place.anchor) for places in equations.tests.values() for place in places}
    for file in sorted((REPOSITORY / "tests" / "equations").glob("test_*.py")):
        page = file.relative_to(REPOSITORY).with_suffix("").as_posix()
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert (page, node.name) in quoting, node.name


def test_an_equation_is_found_with_its_line_its_test_and_its_reason(tmp_path):
    files = {
        "ldm/one.py": 'def f():\n    r"""Twice.\n\n    $$a\n      = 2b$$\n    """\n\n\n# $$c = d$$\nx = 1\n',
        "docs/page.md": "# The page\n\n$$a = 2b$$\n\n```\n$$in code$$\n```\n\n$$e = f$$\n",
        "docs/equations.md": "# Checked\n\n$$c = d$$\n\nIt is\na name.\n\nMore.\n\n$$g$$\n",
        "tests/equations/test_it.py": 'def test_f():\n    r"""$$a = 2b$$"""\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_equations(tmp_path)
    assert found.places == {
        "a = 2b": [Place("ldm/one", "f", "ldm.one.f", 4), Place("docs/page", "", "The page", 3)],
        "c = d": [Place("ldm/one", "", "ldm.one", 9)],
        "e = f": [Place("docs/page", "", "The page", 9)],
    }
    assert found.tests == {"a = 2b": [Place("tests/equations/test_it", "test_f", "test_f", 1)]}
    assert found.reasons == {"c = d": "It is a name.", "g": ""}
    assert list(found.without_test()) == [("e = f", Place("docs/page", "", "The page", 9))]
