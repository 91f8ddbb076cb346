r"""What other programs would have done with a prompt is said to be plain words here, and nothing else is."""

import time
import warnings

import pytest

from ldm.text.encoder import TextEncoder
from ldm.text.prompt import encode_prompts
from ldm.text.syntax import foreign_syntax, warn_of_syntax
from tests.small import CONFIG, TOKENIZER

TEXT = TextEncoder(CONFIG.text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<lora:foo:0.8> a cat", ["<lora:foo:0.8>"]),
        ("a cat <lyco:x:1>, <hypernet:y:0.5>", ["<lyco:x:1>", "<hypernet:y:0.5>"]),
        ("a cat BREAK a dog BREAK", ["BREAK"]),
        ("a cat, BREAK, a dog", ["BREAK"]),
        ("a cat AND a dog :1.2", ["AND"]),
        ("8K AND a dog", ["AND"]),
        ("a [cat:dog:0.5]", ["[cat:dog:0.5]"]),
        ("a [cat:dog:8] and [dog:.5] and [cat::16]", ["[cat:dog:8]", "[dog:.5]", "[cat::16]"]),
        ("[cat|dog|cow]", ["[cat|dog|cow]"]),
        ("(embedding:EasyNegative:1.1), a cat", ["embedding:EasyNegative:1.1"]),
        ("a {red|blue} cat", ["{red|blue}"]),
        ("__color__ cat, __animals/cats__", ["__color__", "__animals/cats__"]),
        ("a cat --ar 16:9 --v 5 --tile", ["--ar 16:9", "--v 5", "--tile"]),
    ],
)
def test_syntax_of_other_programs_is_found(text, found):
    assert foreign_syntax(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a cat and a dog break the ice",
        "And then, Break of dawn, breakfast, band, ANDROID, BREAKING news",
        "CATS AND DOGS",
        "the title WAR AND PEACE, TAKE A BREAK FROM IT",
        "an AND-gate, R-AND-B",
        "a (red:1.3) cat, ((big)), [small], [[tiny]], (dog:.5)",
        r"\[a:b:0.5\] and \[cat|dog\]",
        "a clock at 12:30, 16:9, a:1.2",
        "<a cat>, a < b: c > d, {curly}, snake_case__name, ____, a -- b, rock-and-roll",
        "[a cat: a portrait]",
    ],
)
def test_ordinary_words_weights_and_signs_are_no_alarm(text):
    assert foreign_syntax(text) == []


def test_long_texts_take_no_time():
    began = time.process_time()
    for text in (
        "[" * 50_000,
        "[a" * 50_000 + "|",
        "{|" * 50_000,
        "<lora:" * 30_000,
        "__a" * 50_000,
        "AND " * 9000,
    ):
        foreign_syntax(text)
    assert time.process_time() - began < 5


def test_generating_warns_once_and_says_what_is_read_as_words():
    with pytest.warns(UserWarning, match="read as plain words: <lora:x:1>, BREAK. This is syntax") as caught:
        encode_prompts(TEXT, TOKENIZER, ["<lora:x:1> red dog", "<lora:x:1> red", "dog BREAK"])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode_prompts(TEXT, TOKENIZER, ["a (red:1.3) dog and a [red] one"])


def test_of_very_many_passages_some_are_shown():
    with pytest.warns(UserWarning, match=r"<lora:0:1>, .* and 7 more\.") as caught:
        warn_of_syntax(f"<lora:{i}:1> <lora:{'x' * 100}{i}:1>" for i in range(6))
    assert len(str(caught[0].message)) < 300
