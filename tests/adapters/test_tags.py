r"""LoRAs named in a prompt and on the command line."""

import pytest

from ldm.adapters.tags import split_prompts, split_strength, split_tags
from ldm.errors import LdmError


def test_tags_are_taken_out_of_the_prompt():
    assert split_tags("a cat <lora:ink:0.8>, <lora: pose : -1.5 >b") == (
        "a cat , b",
        [("ink", 0.8), ("pose", -1.5)],
    )
    assert split_tags("a <lora:ink> b") == ("a  b", [("ink", 1.0)])
    assert split_tags("a cat <3 (word:1.3) <lyco:x:1>") == ("a cat <3 (word:1.3) <lyco:x:1>", [])


@pytest.mark.parametrize("tag", ["<lora:>", "<lora::1>", "<lora:a:>", "<lora:a:b>", "<lora:a:1:2>", "<lora:a:nan>",
                                 "<lora:a:1e9>", "<lora:a:9999999>"])  # fmt: skip
def test_a_tag_of_another_form_is_an_error(tag):
    with pytest.raises(LdmError, match="expected a name and a strength: <lora:ink:0.8>"):
        split_tags(f"a cat {tag}")


def test_the_prompts_of_a_batch_share_their_loras():
    assert split_prompts(["a<lora:x:1>", "<lora:x>b"]) == (["a", "b"], [("x", 1.0)])
    assert split_prompts(["a", "b"]) == (["a", "b"], []) and split_prompts([]) == ([], [])
    with pytest.raises(LdmError, match="ask for different LoRAs"):
        split_prompts(["a<lora:x:1>", "<lora:x:0.5>b"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors:0.8", ("a.safetensors", 0.8)),
        ("a:b:-.5", ("a:b", -0.5)),
        (r"C:\a.safetensors", (r"C:\a.safetensors", 1.0)),
        ("a:nan", ("a:nan", 1.0)),
        (":0.8", (":0.8", 1.0)),
    ],
)
def test_a_file_may_have_its_strength_behind_it(text, expected):
    assert split_strength(text) == expected


@pytest.mark.parametrize("strength", ["abc", "nan", "", "1,5"])
def test_a_file_with_anything_but_a_number_behind_it_is_refused(strength):
    with pytest.raises(
        LdmError, match="a strength of .*; expected a decimal number, as in ink.safetensors:0.8"
    ):
        split_strength(f"ink.safetensors:{strength}")
