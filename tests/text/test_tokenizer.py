import html
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.errors import LdmError
from ldm.text import pretokenize as words_module
from ldm.text import tokenizer as tokenizer_module
from ldm.text.bpe import merge_pair
from ldm.text.merges import CLIP_MERGES, parse_merges, read_clip_merges
from ldm.text.pretokenize import (
    base_tokens,
    byte_alphabet,
    byte_tokens,
    clean_openai,
    split_words,
    token_bytes,
)
from ldm.text.tokenizer import Tokenizer

GOLDEN = json.loads(Path(__file__).with_name("tokenizer_golden.json").read_text())["cases"]
LOWER = [("l", "o"), ("lo", "w"), ("e", "r</w>")]  # the example of the module's docstring

CLIP = {clean: Tokenizer.clip(clean=clean) for clean in ("openai", "hf")}
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)  # lone surrogates and controls as well


def unchecked(module):
    """A fresh copy of a module without the test run's type checks, as users have it."""
    spec = importlib.util.spec_from_file_location("unchecked", module.__file__)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


# Against the reference programs.


@pytest.mark.parametrize("clean", ["openai", "hf"])
@pytest.mark.parametrize("name", GOLDEN)
def test_odd_prompts_get_the_ids_of_the_reference(name, clean):
    expected = GOLDEN[name][clean]
    row = CLIP[clean](GOLDEN[name]["text"])[0].tolist()
    assert row[: len(expected)] == expected
    assert set(row[len(expected) :]) <= {49407}


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ("a photograph of an astronaut riding a horse", [320, 8853, 539, 550, 18376, 6765, 320, 4558]),
        ("A painting of a squirrel eating a burger", [320, 3086, 539, 320, 14004, 4371, 320, 6548]),
        ("Hello World!", [3306, 1002, 256]),
    ],
)
def test_well_known_prompts_have_their_published_ids(prompt, ids):
    assert CLIP["openai"].encode(prompt) == ids


def test_clip_numbers_bytes_then_merges_then_special():
    clip = CLIP["openai"]
    assert (clip.vocab_size, clip.bos, clip.eos) == (49408, 49406, 49407)
    assert (clip.vocab["!"], clip.vocab["a"], clip.vocab["!</w>"], clip.vocab["a</w>"]) == (0, 64, 256, 320)
    assert clip.vocab["".join(clip.merges[0])] == 512
    assert clip.vocab["".join(clip.merges[-1])] == 49405
    assert len(clip.merges) == 48894


# By hand.


def test_lower_becomes_low_and_er():
    tokenizer = Tokenizer(LOWER)
    # low is merge 1 and er</w> merge 2, after the 512 bytes.
    assert tokenizer.encode("lower") == [512 + 1, 512 + 2]
    assert tokenizer.tokens("lower") == ["low", "er</w>"]
    assert (tokenizer.bos, tokenizer.eos, tokenizer.vocab_size) == (515, 516, 517)


def test_the_end_of_a_word_is_another_piece_than_its_middle():
    assert Tokenizer(LOWER).tokens("er era") == ["er</w>", "e", "r", "a</w>"]


def test_the_pair_learned_first_is_merged_first_not_the_leftmost():
    assert Tokenizer([("b", "c</w>"), ("a", "b")]).tokens("abc") == ["a", "bc</w>"]
    assert Tokenizer([("a", "b"), ("b", "c</w>")]).tokens("abc") == ["ab", "c</w>"]


def test_a_piece_that_two_merges_build_has_one_id():
    tokenizer = Tokenizer([("a", "b"), ("b", "c</w>"), ("ab", "c</w>"), ("a", "bc</w>"), ("a", "a")])
    assert (tokenizer.vocab["abc</w>"], tokenizer.vocab["aa"], tokenizer.vocab_size) == (514, 515, 518)
    assert tokenizer.encode("abc") == [514]


def test_the_byte_alphabet_is_printable_and_one_to_one():
    alphabet = byte_alphabet()
    assert len(set(alphabet)) == 256
    assert all(character.isprintable() and not character.isspace() for character in alphabet)
    assert (alphabet[0x61], alphabet[0x20], alphabet[0x0A], alphabet[0x00]) == ("a", "Ġ", "Ċ", "Ā")
    assert len(set(base_tokens())) == 512


def test_an_accented_letter_is_two_bytes():
    assert byte_tokens("é") == ("Ã", "©</w>")
    assert token_bytes("Ã©</w>") == "é".encode()


def test_half_a_character_is_shown_as_its_byte():
    assert Tokenizer([]).tokens("é") == [r"\xc3", r"\xa9</w>"]


def test_words_are_cut_at_endings_digits_and_signs():
    assert split_words("A cat's 42!") == ["a", "cat", "'s", "4", "2", "!"]
    assert split_words("we'll (x:1.3)") == ["we", "'ll", "(", "x", ":", "1", ".", "3", ")"]


def test_digits_are_single_pieces():
    assert CLIP["openai"].tokens("1990") == ["1</w>", "9</w>", "9</w>", "0</w>"]


def test_openai_opens_entities_escaped_twice_and_hf_does_not():
    twice = html.escape(html.escape("<b> Tom & Jerry"))
    assert split_words(twice) == ["<", "b", ">", "tom", "&", "jerry"]
    assert split_words("<b> Tom &amp;amp; Jerry") == split_words(twice)  # beside "<", ftfy opens none itself
    assert split_words(twice, "hf")[:4] == ["&", "amp", ";", "lt"]


def test_openai_straightens_curly_quotes():
    assert clean_openai(" Tom &amp;amp; “Jerry” ") == 'tom & "jerry"'


def test_composed_and_combining_accents_are_the_same_word():
    for clean, tokenizer in CLIP.items():
        assert tokenizer.encode("caf\u00e9") == tokenizer.encode("cafe\u0301"), clean


def test_special_tokens_in_capitals_count_for_openai_only():
    assert CLIP["openai"].encode("x <|ENDOFTEXT|>!!") == [343, 49407, 748]
    # The ids transformers 5.23 gives: "<|", "endoftext", "|>", "!!".
    assert CLIP["hf"].encode("x <|ENDOFTEXT|>!!") == [343, 27, 347, 40786, 4160, 91, 285, 748]


def test_hf_padded_with_zero_takes_every_exclamation_mark_for_padding():
    # The ids transformers 5.23 gives when its padding is "!", as in Stable Diffusion 2.
    assert Tokenizer.clip(pad="zero", clean="hf").encode("cat! wow!!") == [2368, 0, 2781, 0, 0]
    assert Tokenizer.clip(pad="zero", clean="openai").encode("cat! wow!!") == [2368, 256, 2781, 748]


# Rows.


@pytest.mark.parametrize(("pad", "number"), [("eos", 49407), ("zero", 0)])
def test_a_row_is_bos_content_eos_padding(pad, number):
    rows = Tokenizer.clip(pad=pad)(["a cat", ""])
    assert rows.dtype == torch.int64
    assert rows.tolist() == [
        [49406, 320, 2368, 49407] + [number] * 73,
        [49406, 49407] + [number] * 75,
    ]


def test_one_string_is_a_batch_of_one_and_no_string_a_batch_of_none():
    assert torch.equal(CLIP["openai"]("a cat"), CLIP["openai"](["a cat"]))
    assert CLIP["openai"]([]).shape == (0, 77)


@pytest.mark.parametrize("count", [74, 75, 76, 500])
def test_truncation_keeps_eos(count):
    row = CLIP["openai"]("cat " * count)[0].tolist()
    kept = min(count, 75)
    assert row == [49406] + [2368] * kept + [49407] * (76 - kept)


def test_a_short_context_is_cut_the_same_way():
    assert Tokenizer(LOWER, context_length=4)("lower lower").tolist() == [[515, 513, 514, 516]]


# Back to text.


def test_decoding_gives_the_cleaned_words():
    tokenizer = CLIP["openai"]
    assert tokenizer.decode(tokenizer.encode("A  Cat's naïve 😀 日本")) == "a cat 's naïve 😀 日本"


@pytest.mark.parametrize("pad", ["eos", "zero"])
def test_decoding_a_row_leaves_out_bos_eos_and_padding(pad):
    tokenizer = Tokenizer.clip(pad=pad)
    assert tokenizer.decode(tokenizer("a cat!")[0]) == "a cat !"


def test_ids_that_cut_a_character_decode_to_the_replacement_character():
    tokenizer = Tokenizer([])
    assert tokenizer.decode(tokenizer.encode("é")[:1]) == "\ufffd"


def test_an_id_outside_the_vocabulary_is_an_error():
    for number in (49408, -1):
        with pytest.raises(LdmError, match=f"id {number}.*49407"):
            CLIP["openai"].decode([320, number])


# Any text.


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=ANY_TEXT, clean=st.sampled_from(["openai", "hf"]))
def test_any_text_has_ids_and_they_decode_to_its_words(text, clean):
    for tokenizer in (CLIP[clean], Tokenizer(LOWER, clean=clean)):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == " ".join(tokenizer.words(text))
        assert len(tokenizer.tokens(text)) == len(ids)
        assert tokenizer(text).shape == (1, 77)


@pytest.mark.long
@settings(max_examples=2000, deadline=None, derandomize=True)
@given(texts=st.lists(ANY_TEXT, min_size=5, max_size=5))
def test_ten_thousand_arbitrary_strings_are_rows_of_ids(texts):
    tokenizer = Tokenizer(LOWER)
    rows = tokenizer(texts)
    assert rows.shape == (5, 77) and rows.min() >= 0 and rows.max() < tokenizer.vocab_size
    assert (rows[:, 0] == tokenizer.bos).all() and (rows == tokenizer.eos).any(dim=1).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(word=st.text("elorw", min_size=1, max_size=30))
def test_merging_equals_applying_every_merge_in_the_order_learned(word):
    merges = [*LOWER, ("l", "l"), ("o", "o"), ("ll", "oo"), ("r", "er</w>"), ("e", "e")]
    symbols = byte_tokens(word)
    for pair in merges:
        symbols = merge_pair(symbols, pair)
    assert Tokenizer(merges).tokens(word) == list(symbols)


@pytest.mark.parametrize("clean", ["openai", "hf"])
def test_lone_surrogates_become_the_replacement_character_and_pairs_are_joined(clean):
    tokenizer = CLIP[clean]
    assert tokenizer.encode("a \ud83d cat") == tokenizer.encode("a \ufffd cat")
    assert tokenizer.encode("a \ud83d\ude00 cat") == tokenizer.encode("a 😀 cat")


@pytest.mark.parametrize("text", ["&#" + "9" * 5000 + ";", "&#xD800;", "&#0;", "\ufeff", "\x00", "<" * 1000])
def test_hostile_texts_have_ids(text):
    for tokenizer in CLIP.values():
        assert tokenizer(text).shape == (1, 77)


def test_encoding_a_word_again_gives_the_same_ids():
    tokenizer = Tokenizer(LOWER)
    assert tokenizer.encode("lower lower") == tokenizer.encode("lower") * 2


# Folders.


@pytest.mark.parametrize("clean", ["openai", "hf"])
@pytest.mark.parametrize("pad", ["eos", "zero"])
def test_a_saved_tokenizer_loads_as_the_same(tmp_path, pad, clean):
    saved = Tokenizer(LOWER, context_length=16, pad=pad, clean=clean)
    saved.save(tmp_path / "tokenizer")
    loaded = Tokenizer.load(tmp_path / "tokenizer")
    assert (loaded.merges, loaded.vocab, loaded.clean) == (saved.merges, saved.vocab, clean)
    assert torch.equal(loaded("a lower “flower”!"), saved("a lower “flower”!"))


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        Tokenizer(LOWER).save(tmp_path / folder)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_folder_as_transformers_writes_it_loads(tmp_path):
    Tokenizer(LOWER).save(tmp_path)
    padding = {"content": "!", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": padding}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 8}))
    assert Tokenizer.load(tmp_path)("lower").tolist() == [[515, 513, 514, 516, 0, 0, 0, 0]]


@pytest.mark.parametrize("name", ["special_tokens_map.json", "tokenizer_config.json"])
def test_config_files_may_be_missing(tmp_path, name):
    Tokenizer(LOWER).save(tmp_path)
    (tmp_path / name).unlink()
    assert torch.equal(Tokenizer.load(tmp_path)("lower"), Tokenizer(LOWER)("lower"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("merges.txt", None, "has no merges.txt; expected tokenizer.json, or vocab.json and merges.txt"),
        ("vocab.json", None, "has no vocab.json; expected tokenizer.json, or vocab.json and merges.txt"),
        ("vocab.json", b"\xff", "vocab.json is not valid JSON"),
        ("vocab.json", b"{", "vocab.json is not valid JSON"),
        ("merges.txt", b"\xff", "is not a text in UTF-8"),
        ("tokenizer_config.json", b'{"bos_token": "<s>"}', "bos_token '<s>', expected '<|startoftext|>'"),
        ("tokenizer_config.json", b'{"tokenizer_class": "T5Tokenizer"}', "tokenizer_class 'T5Tokenizer'"),
        ("added_tokens.json", b'{"<cat-toy>": 519}', "the word '<cat-toy>' was added to CLIP's vocabulary"),
        ("vocab.json", b"[]", "JSON object"),
        ("vocab.json", b'{"a": 0}', "disagree"),
        ("merges.txt", b"#version: 0.2\nl o\nlo  w\n", "line 3"),
        ("merges.txt", b"#version: 0.2\nlo w\n", "neither a byte nor made by an earlier merge"),
        ("merges.txt", b"#version: 0.2\nl o\n", "disagree"),
        ("tokenizer_config.json", b'{"pad_token": "#"}', "pad_token"),
        ("tokenizer_config.json", b'{"model_max_length": 1e30}', "model_max_length"),
        ("tokenizer_config.json", b'{"model_max_length": 1}', "at least 2"),
    ],
)
def test_a_damaged_folder_is_an_error_that_says_what_is_wrong(tmp_path, name, content, message):
    Tokenizer(LOWER).save(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    if content and b"_token" in content:
        (tmp_path / "special_tokens_map.json").unlink()
    with pytest.raises(LdmError, match=message.replace("|", r"\|")):
        Tokenizer.load(tmp_path)


# Failures.


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: b"x" + data[1:]])
def test_a_damaged_file_of_clip_merges_is_an_error(tmp_path, damage):
    path = tmp_path / "merges.gz"
    path.write_bytes(damage(CLIP_MERGES.read_bytes()))
    with pytest.raises(LdmError, match="damaged"):
        read_clip_merges(path)


def test_a_missing_file_of_clip_merges_is_an_error(tmp_path):
    with pytest.raises(LdmError, match="cannot read"):
        read_clip_merges(tmp_path / "none.gz")


def test_too_few_merges_are_an_error():
    with pytest.raises(LdmError, match="got 1 merges, expected 2"):
        parse_merges(["l o"], "merges", 2)


def test_merges_whose_parts_nothing_makes_are_an_error():
    with pytest.raises(LdmError, match="neither a byte nor made by an earlier merge"):
        Tokenizer([("lo", "w"), ("l", "o")])


def test_options_and_inputs_of_the_wrong_kind_are_errors():
    for options in ({"pad": "bos"}, {"clean": "none"}, {"context_length": 1}):
        with pytest.raises(LdmError, match="expected"):
            unchecked(tokenizer_module).Tokenizer(LOWER, **options)
    with pytest.raises(LdmError, match="expected a string"):
        unchecked(words_module).split_words(b"a cat")
    with pytest.raises(LdmError, match="'openai' or 'hf'"):
        unchecked(words_module).split_words("a cat", "none")
