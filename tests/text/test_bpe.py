r"""Learning merges and applying them, as the plain loops."""

import random
from collections import Counter

import pytest

from ldm.errors import LdmError
from ldm.text.bpe import count_words, learn_merges, merge_pair, merge_word
from ldm.text.pretokenize import EOS, byte_tokens
from ldm.text.tokenizer import Tokenizer

WORDS = {"low": 5, "lower": 2, "newer": 6}


def random_counts(seed):
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcé", k=rng.randint(1, 9))) for _ in range(60)]
    return Counter(rng.choices(words, k=400))


def test_the_worked_example_of_the_docstring():
    assert learn_merges(WORDS) == [
        ("e", "r</w>"),  # 2 + 6 times; ("w", "e") as often, but later in the alphabet
        ("w", "er</w>"),  # 8
        ("l", "o"),  # 5 + 2
        ("e", "wer</w>"),  # 6; ("n", "e") as often
        ("n", "ewer</w>"),  # 6
        ("lo", "w</w>"),  # 5
        ("lo", "wer</w>"),  # 2
    ]


def test_a_pair_that_overlaps_itself_is_counted_as_it_stands():
    # a a a a</w>, three times: "a a" six times, "a a</w>" three; then aa a a</w>, where both pairs occur three times.
    assert learn_merges({"aaaa": 3}) == [("a", "a"), ("a", "a</w>"), ("aa", "aa</w>")]


def test_the_tokens_of_the_docstrings_word():
    ranks = {pair: rank for rank, pair in enumerate(learn_merges(WORDS, 3))}
    assert merge_word(byte_tokens("lowest"), ranks) == ("lo", "w", "e", "s", "t</w>")
    assert merge_word(byte_tokens("lower"), ranks) == ("lo", "wer</w>")


def test_all_occurrences_of_a_pair_are_merged_before_a_pair_that_they_create():
    ranks = {("b", "c"): 0, ("abc", "a"): 1, ("a", "bc"): 2}
    assert merge_word("abcabc", ranks) == ("abc", "abc")  # not ("abca", "bc")


def test_merging_goes_left_to_right_without_overlap():
    assert merge_pair(("a", "a", "a"), ("a", "a")) == ("aa", "a")
    assert merge_pair(("a", "b", "a", "b"), ("a", "b")) == ("ab", "ab")
    assert merge_pair(("a",), ("a", "a")) == ("a",)


def test_every_word_seen_twice_becomes_one_piece():
    counts = {word: count for word, count in random_counts(0).items() if count >= 2}
    tokenizer = Tokenizer(learn_merges(counts))
    assert all(len(tokenizer.encode(word)) == 1 for word in counts)


def test_what_occurs_once_is_not_learned():
    assert learn_merges({"cat": 1}) == []
    assert learn_merges({"cat": 1, "car": 1}) == [("c", "a")]


def test_size_stops_early_with_the_same_first_merges():
    counts = random_counts(1)
    assert learn_merges(counts, 7) == learn_merges(counts)[:7]
    assert learn_merges(counts, 0) == []


def test_the_order_of_the_corpus_changes_nothing():
    counts = random_counts(2)
    assert learn_merges(counts) == learn_merges(dict(sorted(counts.items(), reverse=True)))


def test_captions_are_cleaned_and_cut_as_the_tokenizer_does():
    captions = ["A  CAT's hat", "a cat&#39;s hat!", "A  CAT's hat"]
    assert count_words(captions) == {"a": 3, "cat": 3, "'s": 3, "hat": 3, "!": 1}
    assert learn_merges(captions) == learn_merges({"a": 3, "cat": 3, "'s": 3, "hat": 3, "!": 1})


def test_a_generator_of_captions_and_an_empty_corpus_are_fine():
    assert learn_merges(caption for caption in ["cat", "cat"]) == [("a", "t</w>"), ("c", "at</w>")]
    assert learn_merges([]) == []
    assert learn_merges({}) == []
    assert learn_merges({"": 3}) == []


def test_special_tokens_are_not_learned():
    assert learn_merges([f"cat {EOS}", f"cat {EOS}"]) == learn_merges(["cat", "cat"])


def test_nothing_may_be_below_zero():
    with pytest.raises(LdmError, match="max_merges -1"):
        learn_merges(WORDS, max_merges=-1)
    with pytest.raises(LdmError, match="count -2"):
        learn_merges({"low": -2})
