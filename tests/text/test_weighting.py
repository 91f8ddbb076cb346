r"""Brackets in a prompt."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.text.weighting import weighted_parts

UP, DOWN = 1.1, 1 / 1.1


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("", [("", 1)]),
        ("a red dog", [("a red dog", 1)]),
        ("a (red) dog", [("a ", 1), ("red", UP), (" dog", 1)]),
        ("a [red] dog", [("a ", 1), ("red", DOWN), (" dog", 1)]),
        ("a (red:1.3) dog", [("a ", 1), ("red", 1.3), (" dog", 1)]),
        ("(a:0)(b:-1)(c: +.5 )", [("a", 0), ("b", -1), ("c", 0.5)]),
        ("((red))", [("red", UP * UP)]),
        ("(([red]))", [("red", UP * UP * DOWN)]),
        ("(a [b:1.2) c]", [("a ", UP * 1.2 / UP), ("b", 1.2 * DOWN), (" c", DOWN)]),
        ("a (b (c:2) d:3) e", [("a ", 1), ("b ", 3), ("c", 6), (" d", 3), (" e", 1)]),
        ("(red:1) dog", [("red dog", 1)]),
        ("(a)(b)[c][d]", [("ab", UP), ("cd", DOWN)]),
    ],
)
def test_weights_by_hand(prompt, parts):
    got = weighted_parts(prompt)
    assert [text for text, _ in got] == [text for text, _ in parts]
    assert [weight for _, weight in got] == pytest.approx([weight for _, weight in parts], abs=1e-12)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a (red dog", [("a ", 1), ("red dog", UP)]),  # never closed: up to the end
        ("a [red (dog", [("a ", 1), ("red ", DOWN), ("dog", DOWN * UP)]),
        ("a red) dog]", [("a red) dog]", 1)]),  # never opened: text
        ("a red:1.3) dog", [("a red:1.3) dog", 1)]),
        ("[red:1.3)]", [("red:1.3)", DOWN)]),
        ("(at 12:30)", [("at 12", 30)]),  # as there: a colon, a number and a bracket are a weight
        ("(a:b)", [("a:b", UP)]),
        ("(a:1.2.3)", [("a:1.2.3", UP)]),
        ("(a:)", [("a:", UP)]),
        ("()", [("", 1)]),
        ("a: 2", [("a: 2", 1)]),
    ],
)
def test_what_is_no_weight_is_text(prompt, parts):
    got = weighted_parts(prompt)
    assert [text for text, _ in got] == [text for text, _ in parts]
    assert [weight for _, weight in got] == pytest.approx([weight for _, weight in parts], abs=1e-12)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        (r"\(red\) \[dog\]", [("(red) [dog]", 1)]),
        (r"(a smile :\))", [("a smile :)", UP)]),
        (r"(red \(not blue\):1.3)", [("red (not blue)", 1.3)]),
        (r"\\(red)", [("\\", 1), ("red", UP)]),  # a backslash, then a bracket that counts
        (r"\\\(red", [(r"\(red", 1)]),
        (r"a \ b \\ c", [(r"a \ b \\ c", 1)]),  # before no bracket, a backslash is a backslash
    ],
)
def test_escapes_by_hand(prompt, parts):
    got = weighted_parts(prompt)
    assert [text for text, _ in got] == [text for text, _ in parts]
    assert [weight for _, weight in got] == pytest.approx([weight for _, weight in parts], abs=1e-12)


BRACKETS = st.text(alphabet="()[]:\\.0123456789-+ ab", max_size=60)


@settings(deadline=None)
@given(st.text() | BRACKETS)
def test_any_string_has_parts_with_weights_and_keeps_its_words(prompt):
    parts = weighted_parts(prompt)
    assert parts and all(isinstance(text, str) and isinstance(weight, float) for text, weight in parts)
    letters = [character for character in prompt if character.isalpha()]
    assert [character for text, _ in parts for character in text if character.isalpha()] == letters
    assert all(a[1] != b[1] for a, b in zip(parts, parts[1:]))


@settings(deadline=None)
@given(st.text().filter(lambda text: not set(text) & set("()[]")))
def test_a_text_without_brackets_is_unchanged(prompt):
    assert weighted_parts(prompt) == [(prompt, 1.0)]


@settings(deadline=None)
@given(st.text())
def test_a_text_with_its_brackets_escaped_is_unchanged(prompt):
    prompt = prompt.replace("\\", "")
    escaped = "".join(f"\\{character}" if character in "()[]" else character for character in prompt)
    assert weighted_parts(escaped) == [(prompt, 1.0)]


@settings(deadline=None)
@given(st.text(alphabet="ab c"), st.floats(-9, 9).map(lambda x: round(x, 3)))
def test_a_weight_is_the_number_that_was_written(word, weight):
    assert weighted_parts(f"({word}d:{weight:.3f})") == [(f"{word}d", weight)]


def test_ten_thousand_nested_brackets_are_no_burden():
    # Not one pass for each bracket: that would be a hundred million steps.
    [(text, weight)] = weighted_parts("(" * 10_000 + "a" + ":1)" * 10_000)
    assert (text, weight) == ("a", 1.0)
    assert math.isinf(weighted_parts("(" * 10_000 + "a")[0][1])
