r"""The list of exercises."""

import ast
from pathlib import Path

import pytest

from ldm.chapters import reading_order
from ldm.errors import LdmError
from ldm.lab.exercises import exercise
from ldm.lab.exercises.exercise import EXERCISES, exercises_in, find_exercise

REPOSITORY = Path(__file__).resolve().parents[3]


def test_there_are_at_least_fifteen_and_no_name_is_used_twice():
    text = Path(exercise.__file__).with_name("exercises.json").read_text(encoding="utf-8")
    assert len(EXERCISES) == text.count('"name": ') >= 15


def test_a_name_can_be_a_file_and_a_module():
    assert all(name.isidentifier() for name in EXERCISES)


def test_each_list_is_in_the_order_in_which_the_source_is_read():
    assert {e.module for e in EXERCISES.values()} <= set(reading_order())


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_the_tests_of_an_exercise_are_there(exercise):
    for test in exercise.tests:
        file, _, name = test.partition("::")
        tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
        assert not name or name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def test_the_exercises_of_a_module_are_found():
    assert [e.name for e in exercises_in("ldm.nn.attention")] == ["attention", "causal_mask", "heads"]
    assert exercises_in("ldm.errors") == []


def test_an_unknown_name_is_answered_with_the_nearest_one_or_with_all():
    with pytest.raises(LdmError, match="'attenton'; did you mean attention?"):
        find_exercise("attenton")
    with pytest.raises(LdmError, match="'zzz'; expected one of guidance, mixture_score"):
        find_exercise("zzz")
