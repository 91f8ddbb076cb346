r"""Stubs and solutions are cut from the source; an answer is tried as it stands."""

import ast
from pathlib import Path

import pytest

from ldm.errors import LdmError
from ldm.lab.exercises.exercise import EXERCISES, Mistake
from ldm.lab.exercises.patching import (
    find_function,
    live_source,
    solution,
    stub,
    with_answer,
    with_mistake,
)

EACH = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)


def function_of(source, name):
    found = find_function(ast.parse(source), name)
    assert found is not None
    return found[0]


@EACH
def test_a_stub_keeps_signature_and_docstring_and_raises_instead_of_its_body(exercise):
    live, cut = (function_of(text, exercise.function) for text in (live_source(exercise), stub(exercise)))
    assert ast.unparse(cut.args) == ast.unparse(live.args)
    assert (cut.returns is None) == (live.returns is None)
    assert ast.get_docstring(cut) == ast.get_docstring(live)
    body = cut.body[1:] if ast.get_docstring(cut) else cut.body
    assert [ast.unparse(statement) for statement in body] == [
        f"raise NotImplementedError('write {exercise.function} here')"
    ]


@EACH
def test_a_stub_is_a_module_that_can_be_imported(exercise):
    names: dict = {}
    exec(compile(stub(exercise), f"{exercise.name}.py", "exec"), names)
    assert exercise.function.partition(".")[0] in names


@EACH
def test_no_stub_shows_the_body(exercise):
    _, _, text = solution(exercise)
    body = ast.parse("if True:\n" + text if text.startswith(" ") else text)
    node = next(n for n in ast.walk(body) if isinstance(n, ast.FunctionDef))
    for statement in node.body[bool(ast.get_docstring(node)) :]:
        assert ast.unparse(statement) not in {
            ast.unparse(n) for n in ast.walk(function_of(stub(exercise), exercise.function))
        }


@EACH
def test_the_solution_is_the_text_of_the_lines_that_it_names(exercise):
    first, last, text = solution(exercise)
    assert "".join(live_source(exercise).splitlines(keepends=True)[first - 1 : last]) == text
    assert f"def {exercise.function.rpartition('.')[2]}(" in text


@EACH
def test_every_typical_wrong_answer_can_still_be_made_and_is_python(exercise):
    assert exercise.mistakes
    for wrong in exercise.mistakes:
        source = with_mistake(exercise, wrong).source
        ast.parse(source)
        assert source != live_source(exercise)


def test_a_wrong_answer_that_the_code_has_outgrown_is_an_error():
    with pytest.raises(LdmError, match="classifier_free_guidance no longer contains 'what never was there'"):
        with_mistake(EXERCISES["guidance"], Mistake("is old", {"what never was there": ""}))


GUIDE = EXERCISES["guidance"]
ANSWER = '''r"""Mine."""

from __future__ import annotations

import math as maths
from ldm.diffusion.guidance import rescale_guidance

HALF = 0.5


def difference(a, b):
    return a - b


def classifier_free_guidance(uncond, cond, scale):
    return uncond + scale * difference(cond, uncond) + nothing * maths.pi * HALF


print("not shown")
'''


def test_an_answer_is_tried_as_it_stands_and_its_helpers_are_named():
    placed = with_answer(GUIDE, ANSWER, Path("mine.py"))
    assert placed.source == ANSWER and placed.path == Path("mine.py")
    assert placed.also == ("maths", "HALF", "difference")  # neither what the module has, nor its function


def test_constants_that_are_unpacked_go_along():
    placed = with_answer(GUIDE, "a, (b, *c) = 1, (2, 3)\nd = e = a\n" + ANSWER, Path("mine.py"))
    assert placed.also[:5] == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            "def classifier_free_guidance(uncond, cond, scale)\n    return 1\n",
            r"mine.py, line 1: not valid Python",
        ),
        ("\0", "mine.py"),
        (
            "from math import *\ndef classifier_free_guidance(uncond, cond, scale):\n    return 1\n",
            r"mine.py, line 1: `import \*` is not supported; name what you need",
        ),
        (
            "x = 1\n",
            "mine.py has no classifier_free_guidance; start again with `ldm exercise start guidance`",
        ),
        (
            "def classifier_free_guidance(cond, uncond):\n    return 1\n",
            r"takes \(cond, uncond\); the tests call it with \(uncond, cond, scale\)",
        ),
    ],
)
def test_an_answer_that_cannot_be_put_in_place_is_an_error(answer, message):
    with pytest.raises(LdmError, match=message):
        with_answer(GUIDE, answer, Path("mine.py"))
