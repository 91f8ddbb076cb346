r"""Byte-pair encoding: learning merges from a corpus, and applying them to a word.

**Learning.** Start with every word split into single bytes. Count all adjacent pairs, weighting each word by how often
it occurs; merge the most frequent pair into one token, `l o` into `lo`, everywhere; repeat. The ordered list of merges
is the whole model.

Worked example, with "low" seen five times, "lower" twice and "newer" six times (`_` is the end-of-word suffix `</w>`):

    l o w_ x5      l o w e r_ x2      n e w e r_ x6
    pairs: e r_ 8, w e 8, l o 7, n e 6, e w 6, o w_ 5, o w 2
    merge 0: e r_      (8; "w e" is as frequent, but "e r_" comes first alphabetically)
    l o w_ x5      l o w er_ x2       n e w er_ x6
    pairs: w er_ 8, l o 7, n e 6, e w 6, ...
    merge 1: w er_
    l o w_ x5      l o wer_ x2        n e wer_ x6
    merge 2: l o       (7), and so on, until each word is a single token

Frequent words become short, and rare ones can still be spelled out. Pairs never cross word boundaries, so each distinct
word is kept only once, with its count, however often it occurs.

**Applying.** Split a new word into bytes, and as long as any learned pair is left, merge the one that was learned
first. With the three merges above, "lowest", which the corpus does not contain:

    l o w e s t_       merges 0 and 1 do not occur
    lo w e s t_        merge 2: l o; no learned pair is left, so these are its five tokens

Left out: speed. Learning counts every pair again for each merge, and applying looks through the whole word again for
each merge. `ldm.text.fast_bpe` does the same in less time; a test checks that the results are equal.

Source: Sennrich, Haddow and Birch 2016, algorithm 1.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ldm.errors import LdmError
from ldm.text.pretokenize import BOS, EOS, Clean, byte_tokens, split_words

Pair = tuple[str, str]


def merge_pair(tokens: Sequence[str], pair: Pair) -> tuple[str, ...]:
    r"""Merge every occurrence of a pair, left to right: ("a", "a", "a") with ("a", "a") -> ("aa", "a")."""
    merged: list[str] = []
    position = 0
    while position < len(tokens):
        if tuple(tokens[position : position + 2]) == pair:
            merged.append(pair[0] + pair[1])
            position += 2
        else:
            merged.append(tokens[position])
            position += 1
    return tuple(merged)


def merge_word(tokens: Sequence[str], ranks: Mapping[Pair, int]) -> tuple[str, ...]:
    r"""Merge a word until no learned pair is left. `ranks` says when each pair was learned: {("l", "o"): 0, ...}.

    The pair that was learned first is merged first, not the leftmost or the longest.
    """
    word = tuple(tokens)
    while present := [pair for pair in zip(word, word[1:]) if pair in ranks]:
        word = merge_pair(word, min(present, key=lambda pair: ranks[pair]))
    return word


def learn_merges(corpus: Mapping[str, int] | Iterable[str], max_merges: int | None = None) -> list[Pair]:
    r"""Merges for `ldm.text.tokenizer.Tokenizer`, in the order learned.

    `corpus` is either word counts ({"low": 5}) or texts, whose words are counted first (`count_words`). Learning stops
    after `max_merges`, or when no pair occurs twice; without `max_merges`, every word seen at least twice has then
    become a single token. Ties go to the alphabetically first pair, so the result depends only on the counts. Raises
    `LdmError` for a negative `max_merges` or count.
    """
    counts, spelling = spell_words(corpus, max_merges)
    merges: list[Pair] = []
    while max_merges is None or len(merges) < max_merges:
        pair_counts: Counter[Pair] = Counter()
        for word, tokens in spelling.items():
            for pair in zip(tokens, tokens[1:]):
                pair_counts[pair] += counts[word]
        best = min(pair_counts, key=lambda pair: (-pair_counts[pair], pair), default=None)
        if best is None or pair_counts[best] < 2:
            break
        merges.append(best)
        spelling = {word: merge_pair(tokens, best) for word, tokens in spelling.items()}
    return merges


def spell_words(
    corpus: Mapping[str, int] | Iterable[str], max_merges: int | None
) -> tuple[Mapping[str, int], dict[str, tuple[str, ...]]]:
    r"""Where learning starts: the word counts, and each word as a tuple of single bytes."""
    counts = corpus if isinstance(corpus, Mapping) else count_words(corpus)
    lowest = min(counts.values(), default=0)
    if (max_merges or 0) < 0 or lowest < 0:
        raise LdmError(f"max_merges {max_merges}, lowest count {lowest}: expected both to be at least 0")
    return counts, {word: byte_tokens(word) for word in counts if word not in ("", BOS, EOS)}


def count_words(texts: Iterable[str], clean: Clean = "openai") -> Counter[str]:
    r"""How often each word occurs, after the same normalising and splitting that the tokenizer does.

    Repeated texts are normalised only once, because that is the slow part.
    """
    counts: Counter[str] = Counter()
    for text, times in Counter(texts).items():
        for word in split_words(text, clean):
            counts[word] += times
    return counts
