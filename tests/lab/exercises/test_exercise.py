r"""The list of exercises."""

import ast
import re
from pathlib import Path

import pytest

from ldm.chapters import reading_order
from ldm.errors import LdmError
from ldm.lab.exercises import exercise
from ldm.lab.exercises.exercise import EXERCISES, exercises_in, find_exercise
from ldm.lab.exercises.patching import solution
from tests.lab.exercises.checks import without_each_check

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


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_hints_come_in_steps_and_the_first_does_not_give_the_code_away(exercise):
    assert len(exercise.hints) == 3 and len(set(exercise.hints)) == 3
    assert all(hint.endswith(".") or hint.endswith("?") for hint in exercise.hints)
    assert all(len(hint) < 300 and hint.count("`") % 2 == 0 for hint in exercise.hints)
    _, _, text = solution(exercise)
    first = re.findall("`(.+?)`", exercise.hints[0])
    assert not [code for code in first if "(" in code and f"return {code}" in text]


def test_the_checks_of_a_function_are_found():
    gone = [gone for gone, _ in without_each_check(EXERCISES["ddim_step"])]
    assert gone == ["if not 0 <= eta <= 1:", "if eta > 0 and noise is None:"]
    [(gone, attempt)] = without_each_check(EXERCISES["add_noise"])
    assert gone.endswith(".to(x0.dtype)") and "eps).to(x0.dtype)" not in attempt.source
    [(gone, attempt)] = without_each_check(EXERCISES["unet_skips"])
    assert "strict=True" in gone and "zip(self.res, skips)" in attempt.source
