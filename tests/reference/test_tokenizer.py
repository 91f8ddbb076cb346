r"""Our saved folders, opened by transformers, live."""

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


def test_transformers_writes_a_folder_that_we_open(tmp_path):
    ours = Tokenizer(learn_merges(CAPTIONS * 2), context_length=32, pad="zero")
    ours.save(tmp_path / "ours")
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    for name in ("vocab.json", "merges.txt"):  # transformers 5 writes its own tokenizer.json in their place
        if not (tmp_path / "theirs" / name).exists():
            (tmp_path / "theirs" / name).write_bytes((tmp_path / "ours" / name).read_bytes())
    assert Tokenizer.load(tmp_path / "theirs")(CAPTIONS).tolist() == ours(CAPTIONS).tolist()


@pytest.mark.parametrize("pad", ["eos", "zero"])
def test_hf_cleaning_equals_transformers_on_odd_texts(tmp_path, pad):
    ours = Tokenizer.clip(pad=pad, clean="hf")
    ours.save(tmp_path)
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choices(FRAGMENTS, k=rng.randint(1, 8)))
        assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids, repr(text)
