r"""Answers are checked by the components' own tests; all in one process, which the real check starts as well."""

import json
import re
import sys
from pathlib import Path

import pytest

from ldm.errors import LdmError
from ldm.lab.exercises.checking import NEEDED, CheckResult, Failure, explain, open_session, recognise
from ldm.lab.exercises.exercise import EXERCISES
from ldm.lab.exercises.patching import (
    ROOT,
    live_source,
    solution,
    stub,
    unpatched,
    with_answer,
    with_mistake,
)
from tests.lab.exercises.checks import without_each_check

EACH = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
GUIDE = EXERCISES["guidance"]


@pytest.fixture(scope="module")
def session():
    with open_session(EXERCISES.values()) as session:
        yield session


@EACH
@pytest.mark.long
def test_the_live_code_is_right_every_stub_is_not_and_each_wrong_answer_is_told_from_the_others(
    exercise, session
):
    live = session.run(exercise, unpatched(exercise))
    assert live.right, live.failures[:1]
    begun = session.run(exercise, with_answer(exercise, stub(exercise), Path("mine.py")))
    assert begun.is_unwritten and not begun.right
    outcomes = [session.run(exercise, with_mistake(exercise, wrong)) for wrong in exercise.mistakes]
    for i, outcome in enumerate(outcomes):
        assert outcome.failures and not outcome.is_unwritten, exercise.mistakes[i].description
        # `recognise` takes the first that looks alike, so none before may.
        assert [other.looks_like(outcome) for other in outcomes].index(True) == i, exercise.mistakes[
            i
        ].description


def answer(body, helper=""):
    return with_answer(
        GUIDE, f"{helper}def classifier_free_guidance(uncond, cond, scale):\n    {body}\n", Path("mine.py")
    )


def test_a_right_answer_in_other_words_passes(session):
    placed = answer("w = scale - 1\n    return (1 + w) * cond - w * uncond")
    found = session.run(GUIDE, placed)
    assert found.right
    [first, second] = explain(GUIDE, Path("mine.py"), found)
    assert first.startswith(f"guidance: right. All {found.passed} tests pass")
    assert second == "Compare: ldm exercise solution guidance"


def test_a_typical_mistake_in_other_words_is_named_with_what_was_got_and_expected(session):
    placed = answer("return (1 + scale) * cond - scale * uncond")
    found = session.run(GUIDE, placed)
    known = recognise(session, GUIDE, found)
    assert known == [GUIDE.mistakes[0]]
    lines = explain(GUIDE, Path("mine.py"), found, known)
    total = found.passed + len(found.failures)
    assert lines == [
        f"guidance: not yet. {len(found.failures)} of {total} tests fail.",
        "The first is test_guidance_by_hand, in tests/diffusion/test_guidance.py:",
        "    got 14, expected 11",  # 5 + 3 * (5 - 2)
        f"This {GUIDE.mistakes[0].description}.",
    ]


def test_of_a_class_only_the_method_is_taken(session):
    geglu = EXERCISES["geglu"]
    _, _, text = solution(geglu)
    mine = "class FeedForward:\n    def __init__(self):\n        rubbish\n\n"
    assert session.run(geglu, with_answer(geglu, mine + text, Path("mine.py"))).right


def test_an_answer_may_call_its_parent_in_either_way(session):
    padding = EXERCISES["encoder_padding"]
    _, _, text = solution(padding)
    old_fashioned = text.replace("super()", "super(EncoderLevel, self)")
    assert old_fashioned != text
    placed = with_answer(padding, f"class EncoderLevel:\n{old_fashioned}", Path("mine.py"))
    assert session.run(padding, placed).right
    assert session.run(padding, unpatched(padding)).right


def test_the_example_in_the_docs_is_what_is_answered(session):
    attention = EXERCISES["attention"]
    placed = with_mistake(attention, attention.mistakes[0])
    found = session.run(attention, placed)
    lines = explain(attention, Path("mine.py"), found, recognise(session, attention, found))
    text = (ROOT / "docs" / "exercises.md").read_text(encoding="utf-8")
    assert "\n".join(["```text", *lines, "```"]) in text


DDIM_ANSWER = """
def ddim_step(x0, eps, level, next_level, eta=0.0, noise=None):
    if eta > 0 and noise is None:
        raise LdmError("give me noise")
    s = ddim_sigma(level, next_level, eta)
    x = next_level.alpha**2 * x0 + math.sqrt(next_level.sigma**2 - s * s) * eps
    return x if noise is None else x + s * noise
"""


def test_a_wrong_answer_that_also_lacks_a_check_is_told_both(session):
    ddim = EXERCISES["ddim_step"]
    placed = with_answer(ddim, DDIM_ANSWER, Path("mine.py"))
    found = session.run(ddim, placed)
    lines = explain(ddim, Path("mine.py"), found, recognise(session, ddim, found))
    assert lines[-2:] == [
        "This uses alpha squared as the coefficient of the image.",
        "It also accepts an eta outside [0, 1].",
    ]


@EACH
@pytest.mark.long
def test_no_check_of_a_function_can_be_left_out_unnoticed(exercise, session):
    for gone, attempt in without_each_check(exercise):
        assert session.run(exercise, attempt).failures, gone


def test_a_mistake_that_nobody_has_thought_of_is_not_given_a_name(session):
    found = session.run(GUIDE, answer("return uncond + 2 * scale * (cond - uncond)"))
    assert found.failures and recognise(session, GUIDE, found) == []


def test_an_exception_is_told_with_its_line_in_the_learners_file(session):
    placed = answer("return helper(cond)", helper="def helper(x):\n    return x + nowhere\n\n\n")
    found = session.run(GUIDE, placed)
    lines = explain(GUIDE, Path("mine.py"), found)
    assert lines[2] == "    NameError: name 'nowhere' is not defined (mine.py, line 2)"


def test_a_helper_that_cannot_even_be_defined_is_told_with_its_line(session):
    placed = answer("return cond", helper="\nHALF = nowhere / 2\n\n")
    found = session.run(GUIDE, placed)
    assert explain(GUIDE, Path("mine.py"), found) == [
        "guidance: not yet. mine.py cannot be run:",
        "    NameError: name 'nowhere' is not defined (mine.py, line 2)",
    ]
    assert session.run(GUIDE, unpatched(GUIDE)).right


def test_a_stub_is_told_to_be_unwritten(session):
    placed = with_answer(GUIDE, stub(GUIDE), Path("mine.py"))
    lines = explain(GUIDE, Path("mine.py"), session.run(GUIDE, placed))
    assert lines == ["guidance: not written yet. mine.py still raises NotImplementedError."]


def test_the_source_is_never_touched(session):
    before = live_source(GUIDE)
    session.run(GUIDE, answer("return cond"))
    assert live_source(GUIDE) == before
    assert session.run(GUIDE, unpatched(GUIDE)).right  # and the next run does not see it


@pytest.mark.long
def test_an_answer_that_never_ends_is_stopped():
    with open_session([GUIDE]) as session:
        session.run(GUIDE, unpatched(GUIDE))  # torch is imported now
        with pytest.raises(LdmError, match="guidance: the tests did not finish within 1 seconds"):
            session.run(GUIDE, answer("while True:\n        pass"), limit=1.0)


def test_without_the_tests_the_error_says_where_they_are(tmp_path):
    with pytest.raises(LdmError, match="clone the repository"), open_session([GUIDE], tmp_path):
        pass


@pytest.mark.long
def test_without_what_the_tests_need_the_error_says_how_to_install_just_that(monkeypatch):
    monkeypatch.setattr(
        "ldm.lab.exercises.checking.find_spec", lambda name: None if name == "beartype" else object()
    )
    remedy = re.escape(f"needs beartype; to install: {sys.executable} -m pip install beartype")
    with pytest.raises(LdmError, match=f"{remedy}$"), open_session([GUIDE]):
        pass


@pytest.mark.long
def test_the_extra_that_make_demo_installs_is_what_checking_needs():
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [extra] = re.findall(r"^exercises = (\[.*\])$", metadata, flags=re.MULTILINE)
    assert sorted(re.split(r"[>=]", name)[0] for name in json.loads(extra)) == sorted(NEEDED)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(
        r"^\$\(CORE\):.*\n(?:\t.*\n)*\t\$\(PIP\) -e '\.\[exercises\]'$", makefile, flags=re.MULTILINE
    )


@pytest.mark.long
def test_outcomes_look_alike_by_numbers_of_assertions_but_not_by_the_words_of_exceptions():
    def one(kind, message):
        return CheckResult(3, (Failure("test_a", kind, message, None),), 0.1)

    assert one("AssertionError", "got 1, expected 2").looks_like(one("AssertionError", "got 1, expected 2"))
    assert not one("AssertionError", "got 1, expected 2").looks_like(
        one("AssertionError", "got 3, expected 2")
    )
    assert one("NameError", "a is not defined").looks_like(one("NameError", "b is not defined"))
    assert not CheckResult(1, (), 0.1).looks_like(CheckResult(1, (), 0.1))
