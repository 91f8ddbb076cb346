r"""Our saved folders, opened by transformers, live."""

import json
import random

import pytest

from ldm.text.bpe import learn_merges
from ldm.text.tokenizer import Tokenizer

pytestmark = pytest.mark.reference
transformers = pytest.importorskip("transformers")

CAPTIONS = [
    "a red house by the sea at night",
    "a dog with round glasses, smiling",
    "three boats; it's raining",
]
FRAGMENTS = [
    *["'s", "'S", "'ll", "\u017f", "'\u017f", "<|endoftext|>", "<|ENDOFTEXT|>", "<|startoftext|>", "!", "!!"],
    *[
        "&amp;",
        "&amp;amp;",
        "&copy",
        "&#65;",
        "“",
        "”",
        "é",
        "e\u0301",
        " ",
        "  ",
        "\n",
        "\t",
        "\x85",
        "\x1c",
    ],
    *[
        "cat",
        "Dog",
        "42",
        "Σ",
        "ς",
        "İ",
        "ß",
        "ﬁ",
        "日本",
        "😀",
        "\u200d",
        "_",
        "’t",
        "\xa0",
        "ＡＢ",
        "<",
        ">",
    ],
]


@pytest.mark.parametrize("pad", ["eos", "zero"])
@pytest.mark.parametrize("size", [0, 40, None])
def test_transformers_opens_our_folder_and_gives_the_same_rows(tmp_path, size, pad):
    ours = Tokenizer(learn_merges(CAPTIONS * 2, size), context_length=32, pad=pad)
    ours.save(tmp_path)
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    texts = [*CAPTIONS, "", "something never seen, naïve café", "boats " * 40]
    rows = theirs(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert ours(texts).tolist() == rows.tolist()


@pytest.mark.parametrize("pad", ["eos", "zero"])
def test_transformers_writes_a_folder_that_we_open(tmp_path, pad):
    # transformers from version 5 on writes tokenizer.json alone, and passes on the options that it does not know.
    Tokenizer.clip(pad=pad, clean="hf").save(tmp_path / "ours")
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    options = tmp_path / "theirs/tokenizer_config.json"
    options.write_text(json.dumps({k: v for k, v in json.loads(options.read_text()).items() if k != "clean"}))
    if transformers.__version__ >= "5":
        assert sorted(file.name for file in (tmp_path / "theirs").iterdir()) == [
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    ours = Tokenizer.load(tmp_path / "theirs")
    rng = random.Random(1)
    texts = ["".join(rng.choices(FRAGMENTS, k=rng.randint(1, 8))) for _ in range(1000)]
    rows = theirs([*CAPTIONS, *texts], padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert ours([*CAPTIONS, *texts]).tolist() == rows.tolist()


def test_where_the_two_tables_of_options_differ_the_padding_is_that_of_transformers(tmp_path):
    Tokenizer.clip(pad="zero").save(tmp_path)
    for options, marks in (("<|endoftext|>", "!"), ("!", "<|endoftext|>")):
        for name, pad in (("tokenizer_config.json", options), ("special_tokens_map.json", marks)):
            table = json.loads((tmp_path / name).read_text())
            (tmp_path / name).write_text(json.dumps(table | {"pad_token": pad}))
        theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
        assert Tokenizer.load(tmp_path).pad_id == theirs.pad_token_id


@pytest.mark.parametrize("pad", ["eos", "zero"])
def test_hf_cleaning_equals_transformers_on_odd_texts(tmp_path, pad):
    ours = Tokenizer.clip(pad=pad, clean="hf")
    ours.save(tmp_path)
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choices(FRAGMENTS, k=rng.randint(1, 8)))
        assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids, repr(text)
