r"""A tokenizer's folder in both of its forms, and what neither may say."""

import json

import pytest

from ldm.errors import LdmError
from ldm.text import tokenizer_files
from ldm.text.pretokenize import BOS, EOS
from ldm.text.tokenizer import Tokenizer

LOWER = [("l", "o"), ("lo", "w"), ("e", "r</w>")]


def mark(number: int, text: str) -> dict:
    return {"id": number, "content": text, "lstrip": False, "normalized": False, "special": True}


def one_table(tokenizer: Tokenizer, as_lines: bool = False) -> dict:
    r"""What transformers writes to tokenizer.json: merges as lines up to version 4.44, as pairs later."""
    marks = [mark(tokenizer.bos, BOS), mark(tokenizer.eos, EOS)]
    cut = {"type": "Split", "pattern": {"Regex": tokenizer_files.WORD}, "behavior": "Removed", "invert": True}
    return {
        "version": "1.0",
        "added_tokens": marks if tokenizer.pad == "eos" else [mark(0, "!"), *marks],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "NFC"}, {"type": "Replace", "content": " "}, {"type": "Lowercase"}],
        },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, {"type": "ByteLevel"}]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": EOS,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "byte_fallback": False,
            "vocab": tokenizer.vocab,
            "merges": [" ".join(pair) if as_lines else list(pair) for pair in tokenizer.merges],
        },
    }


def write(folder, table: dict, **options) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(table))
    (folder / "tokenizer_config.json").write_text(json.dumps(options))


@pytest.mark.parametrize("as_lines", [False, True])
@pytest.mark.parametrize("pad", ["eos", "zero"])
def test_tokenizer_json_alone_is_the_same_tokenizer(tmp_path, pad, as_lines):
    tokenizer = Tokenizer(LOWER, context_length=8, pad=pad, clean="hf")
    token = EOS if pad == "eos" else "!"
    write(tmp_path, one_table(tokenizer, as_lines), pad_token=token, model_max_length=8)
    found = Tokenizer.load(tmp_path)
    assert (found.merges, found.vocab, found.pad, found.context_length) == (
        tokenizer.merges, tokenizer.vocab, pad, 8,
    )  # fmt: skip
    for text in ("a lower “flower”!", "&amp; é", "! !!"):
        assert found(text).tolist() == tokenizer(text).tolist()


def test_the_cleaning_is_the_one_that_tokenizer_json_describes_unless_the_options_say_otherwise(tmp_path):
    table = one_table(Tokenizer(LOWER))
    write(tmp_path, table)
    assert Tokenizer.load(tmp_path).clean == "hf"  # an NFC, spaces, small letters: no entities are opened
    write(tmp_path, table, clean="openai")
    assert Tokenizer.load(tmp_path).clean == "openai"


def test_both_forms_may_lie_side_by_side_if_they_say_the_same(tmp_path):
    Tokenizer(LOWER).save(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(one_table(Tokenizer(LOWER))))
    assert Tokenizer.load(tmp_path).merges == tuple(LOWER)
    (tmp_path / "tokenizer.json").write_text(json.dumps(one_table(Tokenizer(LOWER[:2]))))
    with pytest.raises(LdmError, match="tokenizer.json does not match vocab.json and merges.txt beside"):
        Tokenizer.load(tmp_path)


def test_the_map_of_special_tokens_goes_before_the_options_as_in_transformers(tmp_path):
    # So it is in the folders of Stable Diffusion 2: the options say eos, the map "!".
    Tokenizer(LOWER, pad="zero").save(tmp_path)
    options = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(options | {"pad_token": EOS}))
    assert Tokenizer.load(tmp_path).pad == "zero"


def change(table: dict, path: str, value: object) -> dict:
    r"""The table with one value changed, or left out if it is None."""
    table = json.loads(json.dumps(table))
    *way, last = path.split(".")
    inner = table
    for step in way:
        inner = inner[int(step) if isinstance(inner, list) else step]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return table


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model", None, "has no model; "),
        ("model.vocab", None, "no vocab and merges"),
        ("model.merges", 7, "no vocab and merges"),
        ("model.merges", [["l"]], "expected two tokens separated by a space"),
        ("model.merges", [["l", 1]], r"got the merge \['l', 1\], expected two tokens"),
        ("model.merges", ["l o w"], "expected two tokens separated by a space"),
        ("model.merges", [["x y", "z"]], "expected two tokens separated by a space"),
        ("model.merges", [["lo", "w"]], "neither a byte nor made by an earlier merge"),
        ("model.vocab", {"a": 0}, "its merges .* disagree"),
        ("model.type", "Unigram", "type = 'Unigram'; expected 'BPE'"),
        ("model.end_of_word_suffix", "", "end_of_word_suffix = ''; expected '</w>'"),
        ("model.byte_fallback", True, "byte_fallback = 'True'"),
        ("normalizer", None, "normalises texts with nothing; expected NFC, Replace, Lowercase"),
        ("normalizer.normalizers", [{"type": "NFKC"}], "normalises texts with NFKC"),
        ("pre_tokenizer", {"type": "Whitespace"}, "splits texts at 'None'; expected CLIP's pattern"),
        ("pre_tokenizer.pretokenizers", 3, "splits texts at"),
        ("added_tokens", {"a": 1}, "added_tokens is not a list of objects"),
        ("added_tokens", [mark(519, "<cat-toy>")], "the word '<cat-toy>' was added to CLIP's vocabulary"),
        (
            "added_tokens",
            [mark(3, BOS)],
            "'<.startoftext.>' has the id 3 in added_tokens and 515 in the vocabulary",
        ),
    ],
)
def test_a_tokenizer_json_that_is_not_clips_or_damaged_is_named(tmp_path, path, value, message):
    write(tmp_path, change(one_table(Tokenizer(LOWER)), path, value))
    with pytest.raises(LdmError, match=message):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"[", b"[]", b"3", b"[" * 100_000, b'{"model": ' + b"9" * 5000 + b"}"]
)
def test_a_tokenizer_json_that_is_no_table_is_an_error(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(LdmError, match="tokenizer.json"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"])
def test_files_of_any_size_are_not_read(tmp_path, name):
    Tokenizer(LOWER).save(tmp_path)
    with open(tmp_path / name, "wb") as file:
        file.truncate(6_000_000_000)  # a hole
    with pytest.raises(LdmError, match=f"{name} has 6,000,000,000 bytes; expected at most"):
        Tokenizer.load(tmp_path)


def test_an_empty_folder_is_told_what_belongs_there(tmp_path):
    with pytest.raises(LdmError, match="has no vocab.json and no merges.txt; expected tokenizer.json, or"):
        Tokenizer.load(tmp_path)
