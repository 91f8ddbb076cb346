r"""The fast loops: the results of the plain ones, in fewer steps."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.text.bpe import learn_merges, merge_word
from ldm.text.fast_bpe import learn_merges_fast, merge_word_fast
from ldm.text.merges import read_clip_merges
from tests.text.test_bpe import random_counts


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [None, 0, 7])
def test_the_same_merges_are_learned(seed, size):
    counts = random_counts(seed)
    assert learn_merges_fast(counts, size) == learn_merges(counts, size)


def test_the_same_merges_are_learned_where_a_pair_overlaps_itself_and_from_texts():
    for corpus in ({"aaaa": 3, "aaaaa": 2}, ["a CAT's hat", "a cat&#39;s hat!"], {}, {"cat": 1, "car": 1}):
        assert learn_merges_fast(corpus) == learn_merges(corpus)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_word_has_the_same_tokens(data):
    r"""With merges of all kinds, including those that make one token in two ways: "ab" + "c" and "a" + "bc"."""
    pieces, merges = list("abc"), []
    for _ in range(data.draw(st.integers(0, 12))):
        pair = data.draw(st.tuples(st.sampled_from(pieces), st.sampled_from(pieces)))
        if pair not in merges:
            merges.append(pair)
            pieces.append(pair[0] + pair[1])
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    word = tuple(data.draw(st.text("abc", min_size=1, max_size=40)))
    assert merge_word_fast(word, ranks) == merge_word(word, ranks)


def test_a_word_of_a_hundred_thousand_letters_costs_at_most_three_looks_a_letter():
    letters = random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=100_000)
    looked_up = 0

    class Counting(dict):
        def get(self, pair):
            nonlocal looked_up
            looked_up += 1
            return super().get(pair)

    word = "".join(letters)
    tokens = merge_word_fast(word, Counting({pair: rank for rank, pair in enumerate(read_clip_merges())}))
    assert "".join(tokens) == word and len(tokens) < 60_000
    assert looked_up < 3 * len(word)  # new pairs, and those that were gone when their turn came
