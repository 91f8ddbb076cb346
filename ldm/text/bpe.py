r"""Learning byte-pair merges from a corpus.

Start with every word split into single bytes. Count all adjacent pairs, weighting each word by how often it occurs;
merge the most frequent pair everywhere; repeat. The ordered list of merges is the whole model.

Worked example, with "low" seen five times, "lower" twice and "newer" six times (`_` is the end-of-word mark `</w>`):

    l o w_ x5      l o w e r_ x2      n e w e r_ x6
    pairs: e r_ 8, w e 8, l o 7, n e 6, e w 6, o w_ 5, o w 2
    merge 0: e r_      (8; "w e" is as frequent, but "e r_" comes first alphabetically)
    l o w_ x5      l o w er_ x2       n e w er_ x6
    pairs: w er_ 8, l o 7, n e 6, e w 6, ...
    merge 1: w er_
    l o w_ x5      l o wer_ x2        n e wer_ x6
    merge 2: l o       (7), and so on, until each word is a single token

Frequent words become short, and rare ones can still be spelled out: that is the whole idea of byte-pair encoding.

Pairs never cross word boundaries. Each distinct word is therefore processed once, which is also what makes this fast:
a hundred thousand captions made of a few hundred distinct words cost as much as those few hundred words.

Source: Sennrich, Haddow and Birch 2016, algorithm 1.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from ldm.errors import LdmError
from ldm.text.merges import Pair
from ldm.text.pretokenize import BOS, EOS, Clean, split_words, word_symbols
from ldm.text.tokenizer import merge_pair


def count_words(texts: Iterable[str], clean: Clean = "openai") -> Counter[str]:
    r"""How often each word occurs, after the same cleaning and splitting that the tokenizer does.

    Repeated texts are cleaned only once, because cleaning is the slow part.
    """
    counts: Counter[str] = Counter()
    for text, times in Counter(texts).items():
        for word in split_words(text, clean):
            counts[word] += times
    return counts


def learn_merges(words: Mapping[str, int] | Iterable[str], size: int | None = None) -> list[Pair]:
    r"""Merges for `ldm.text.tokenizer.Tokenizer`, the most frequent first.

    `words` are word counts ({"low": 5}) or plain texts, which `count_words` counts first. Learning stops after `size`
    merges, or when no pair occurs twice; with `size=None`, every word seen at least twice has then become a single
    token. Ties go to the alphabetically first pair, so the result depends only on the counts. Raises `LdmError` for a
    negative size or count.
    """
    counts = words if isinstance(words, Mapping) else count_words(words)
    if (size is not None and size < 0) or min(counts.values(), default=0) < 0:
        raise LdmError(
            f"size {size}, lowest count {min(counts.values(), default=0)}: expected none below zero"
        )
    spelling = {word: word_symbols(word) for word in counts if word not in ("", BOS, EOS)}
    pair_counts: Counter[Pair] = Counter()
    found_in: defaultdict[Pair, set[str]] = defaultdict(set)
    for word, symbols in spelling.items():
        for pair in zip(symbols, symbols[1:]):
            pair_counts[pair] += counts[word]
            found_in[pair].add(word)

    merges: list[Pair] = []
    while pair_counts and (size is None or len(merges) < size):
        best = min(pair_counts, key=lambda pair: (-pair_counts[pair], pair))
        if pair_counts[best] < 2:
            break
        merges.append(best)
        # Only words that contain the pair change: remove their old pairs from the counts and add their new ones.
        for word in found_in[best]:
            old, spelling[word] = spelling[word], merge_pair(spelling[word], best)
            for pair in zip(old, old[1:]):
                pair_counts[pair] -= counts[word]
            for pair in zip(spelling[word], spelling[word][1:]):
                pair_counts[pair] += counts[word]
                found_in[pair].add(word)
        del pair_counts[best]
    return merges
