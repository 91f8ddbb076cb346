import random
from collections import Counter

import pytest

from ldm.errors import LdmError
from ldm.text.bpe import count_words, learn_merges
from ldm.text.pretokenize import EOS, word_symbols
from ldm.text.tokenizer import Tokenizer, merge_pair

WORDS = {"low": 5, "lower": 2, "newer": 6}


def learn_by_recounting(counts, size):
    """The algorithm as the paper prints it: every pair of every word counted anew for each merge."""
    spellings = {word: word_symbols(word) for word in counts}
    merges = []
    while len(merges) < size:
        pairs = Counter()
        for word, symbols in spellings.items():
            for left, right in zip(symbols, symbols[1:]):
                pairs[left, right] += counts[word]
        if not pairs or max(pairs.values()) < 2:
            break
        most = max(pairs.values())
        merges.append(sorted(pair for pair in pairs if pairs[pair] == most)[0])
        spellings = {word: merge_pair(symbols, merges[-1]) for word, symbols in spellings.items()}
    return merges


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


@pytest.mark.parametrize("seed", range(5))
def test_learning_equals_counting_everything_anew_for_each_merge(seed):
    counts = random_counts(seed)
    assert learn_merges(counts) == learn_by_recounting(counts, size=10_000)


def test_a_pair_that_overlaps_itself_is_counted_as_it_stands():
    # a a a a</w>: ("a", "a") stands there twice, then ("aa", "a") and ("a", "a</w>") once a word.
    assert learn_merges({"aaaa": 3}) == learn_by_recounting({"aaaa": 3}, 10)


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
    with pytest.raises(LdmError, match="size -1"):
        learn_merges(WORDS, size=-1)
    with pytest.raises(LdmError, match="count -2"):
        learn_merges({"low": -2})
