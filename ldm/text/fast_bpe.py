r"""The two loops of `ldm.text.bpe`, faster: the same results, without looking at everything again for each merge.

You may skip this file: tests check that both versions agree. `Tokenizer` uses this one because a prompt may contain a
"word" of any length, say a pasted file without spaces, for which n^2 steps are too many.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush

from ldm.text.bpe import Pair, merge_pair, spell_words


def merge_word_fast(word: Sequence[str], ranks: Mapping[Pair, int]) -> tuple[str, ...]:
    r"""`merge_word` in about n log n steps for a word of n bytes instead of n^2.

    A heap keeps the positions of all learned pairs, those learned first at the top. The tokens are a linked list: a
    merge changes the links of its neighbours and adds the two pairs that it creates to the heap.
    """
    tokens, end = list(word), len(word)
    left, right = list(range(-1, end - 1)), list(range(1, end + 1))  # the neighbours of each token
    heap = [(ranks[pair], i) for i, pair in enumerate(zip(tokens, tokens[1:])) if pair in ranks]
    heapify(heap)
    while heap:
        rank, positions = heap[0][0], []
        while heap and heap[0][0] == rank:
            positions.append(heappop(heap)[1])
        for i in positions:  # from left to right
            j = right[i]
            if j == end or ranks.get((tokens[i], tokens[j])) != rank:
                continue  # one of the two has become part of another token since
            tokens[i], tokens[j], right[i] = tokens[i] + tokens[j], "", right[j]
            if right[i] < end:
                left[right[i]] = i
            for k in (left[i], i):
                if k >= 0 and right[k] < end and (pair := (tokens[k], tokens[right[k]])) in ranks:
                    heappush(heap, (ranks[pair], k))
    return tuple(token for token in tokens if token)


def learn_merges_fast(corpus: Mapping[str, int] | Iterable[str], max_merges: int | None = None) -> list[Pair]:
    r"""`learn_merges` with running counts: a merge changes only the pairs of the words that contain it."""
    counts, spelling = spell_words(corpus, max_merges)
    pair_counts: Counter[Pair] = Counter()
    found_in: defaultdict[Pair, set[str]] = defaultdict(set)
    for word, tokens in spelling.items():
        for pair in zip(tokens, tokens[1:]):
            pair_counts[pair] += counts[word]
            found_in[pair].add(word)

    merges: list[Pair] = []
    while pair_counts and (max_merges is None or len(merges) < max_merges):
        best = min(pair_counts, key=lambda pair: (-pair_counts[pair], pair))
        if pair_counts[best] < 2:
            break
        merges.append(best)
        for word in found_in[best]:
            old, spelling[word] = spelling[word], merge_pair(spelling[word], best)
            for pair in zip(old, old[1:]):
                pair_counts[pair] -= counts[word]
            for pair in zip(spelling[word], spelling[word][1:]):
                pair_counts[pair] += counts[word]
                found_in[pair].add(word)
        del pair_counts[best]
    return merges
