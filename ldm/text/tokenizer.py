r"""Text to ids and back: CLIP's byte-pair tokenizer.

A network reads numbers, so a sentence is first cut into pieces from a fixed vocabulary, each piece with an
id. Byte-pair encoding sits between letters (any word can be written, but a sentence becomes long) and whole
words (short, but every new word is unknown): it starts from letters and glues together the neighbours that
were most often seen side by side, in the order in which they were learned (see `ldm.text.bpe`).

With the three merges `l o`, `lo w`, `e r</w>`, the word "lower" shrinks like this:

    l  o  w  e  r</w>        the letters; the last one carries the end-of-word mark
    lo    w  e  r</w>        merge 0: l o
    low      e  r</w>        merge 1: lo w
    low      er</w>          merge 2: e r</w>; no learned pair is left, so "lower" is two pieces

Why `</w>`: "er" closing a word ("lower") and "er" opening one ("era") are different things to a reader, and
without the mark nothing would say where the spaces go when ids become text again.

Why bytes: the "letters" are the 256 possible bytes of UTF-8, so that *every* text, Hindi and emoji included,
can be written with a vocabulary fixed in advance. There is no unknown token.

Why 77: CLIP's table of position embeddings has 77 rows, hence every text becomes exactly 77 ids:
bos, up to 75 ids of content, eos, padding.

Why two paddings: the U-Net attends to all 77 positions, padding included, so the padding must be what the
weights saw in training. Stable Diffusion 1 was trained with transformers' tokenizer, which repeats eos;
Stable Diffusion 2 with open_clip's, which fills with 0 as OpenAI's own `clip.tokenize` does. (SDXL has two
text encoders, and uses one of each.)

Left out: how a text becomes words (`ldm.text.pretokenize`), how the merges are learned (`ldm.text.bpe`),
what becomes of the ids (`ldm.text.encoder`).

Sources: Sennrich, Haddow and Birch 2016, section 3.2 (byte pairs inside words); Radford et al. 2019,
section 2.2 (on bytes); Radford et al. 2021, section 2.4 (CLIP's text encoder).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from ldm.errors import LdmError, shown
from ldm.files.read_write import atomic_path
from ldm.text.merges import Pair, read_clip_merges
from ldm.text.pretokenize import (
    BOS,
    END_OF_WORD,
    EOS,
    Clean,
    base_symbols,
    split_words,
    symbol_bytes,
    word_symbols,
)
from ldm.text.tokenizer_files import read_tokenizer_files

Pad = Literal["eos", "zero"]

_CACHE_LIMIT = 100_000  # words; beyond that, new words are still encoded but no longer remembered


def merge_pair(symbols: Sequence[str], pair: Pair) -> tuple[str, ...]:
    r"""Glue every occurrence of a pair, left to right: ("a", "a", "a") with ("a", "a") -> ("aa", "a")."""
    merged: list[str] = []
    position = 0
    while position < len(symbols):
        if tuple(symbols[position : position + 2]) == pair:
            merged.append(pair[0] + pair[1])
            position += 2
        else:
            merged.append(symbols[position])
            position += 1
    return tuple(merged)


def merge_word(symbols: Sequence[str], ranks: Mapping[Pair, int]) -> tuple[str, ...]:
    r"""Merge a word until no learned pair is left: again and again all places of the pair that was learned first.

    Not the leftmost pair and not the longest. A heap keeps the places of all pairs, first learned first, so that a
    word of n letters costs about n log n steps, where looking for the best pair anew each time would cost n^2.
    """
    pieces, end = list(symbols), len(symbols)
    left, right = list(range(-1, end - 1)), list(range(1, end + 1))  # the neighbours of each piece
    heap = [(ranks[pair], i) for i, pair in enumerate(zip(pieces, pieces[1:])) if pair in ranks]
    heapify(heap)
    while heap:
        rank, places = heap[0][0], []
        while heap and heap[0][0] == rank:
            places.append(heappop(heap)[1])
        for i in places:  # from left to right
            j = right[i]
            if j == end or ranks.get((pieces[i], pieces[j])) != rank:
                continue  # one of the two went into another piece meanwhile
            pieces[i], pieces[j], right[i] = pieces[i] + pieces[j], "", right[j]
            if right[i] < end:
                left[right[i]] = i
            for k in (left[i], i):
                if k >= 0 and right[k] < end and (pair := (pieces[k], pieces[right[k]])) in ranks:
                    heappush(heap, (ranks[pair], k))
    return tuple(piece for piece in pieces if piece)


class Tokenizer:
    r"""Text to ids and back, given the merges.

    Ids: 256 bytes, 256 bytes that end a word, one per merge (in the order learned; a piece that two merges
    can build counts once), then bos and eos. CLIP's own merges give 49,408, with bos 49406 and eos 49407.
    """

    def __init__(
        self,
        merges: Sequence[Pair],
        context_length: int = 77,
        pad: Pad = "eos",
        clean: Clean = "openai",
    ) -> None:
        r"""Raises `LdmError` when a merge uses a piece no earlier line makes, or an option is not known."""
        if pad not in get_args(Pad) or clean not in get_args(Clean):
            raise LdmError(
                f"pad {shown(pad)}, clean {shown(clean)}: expected {get_args(Pad)}, {get_args(Clean)}"
            )
        if type(context_length) is not int or not 2 <= context_length <= 10_000:  # 2: for bos and eos
            raise LdmError(f"context_length {shown(context_length)}: expected a whole number of at least 2")
        self.merges = tuple((left, right) for left, right in merges)
        self.context_length, self.pad, self.clean = context_length, pad, clean
        vocab = {symbol: number for number, symbol in enumerate(base_symbols())}
        for left, right in self.merges:
            if left not in vocab or right not in vocab:
                raise LdmError(f"merge {left!r} {right!r}: a part is no byte and made by no earlier merge")
            vocab.setdefault(left + right, len(vocab))
        self.vocab = vocab | {BOS: len(vocab), EOS: len(vocab) + 1}
        self._tokens = tuple(self.vocab)
        self._ranks = dict(zip(self.merges, range(len(self.merges))))
        self._cache: dict[str, tuple[int, ...]] = {BOS: (self.bos,), EOS: (self.eos,)}
        if pad == "zero" and clean == "hf":
            self._cache["!"] = (0,)  # transformers calls the padding "!" and finds it in texts, too
        self._special = tuple(self._cache)

    @classmethod
    def clip(cls, pad: Pad = "eos", clean: Clean = "openai") -> "Tokenizer":
        r"""CLIP's tokenizer, as in Stable Diffusion: `pad="eos"` for version 1, `"zero"` for version 2."""
        return cls(read_clip_merges(), pad=pad, clean=clean)

    @property
    def bos(self) -> int:
        r"""Id of the beginning-of-sequence mark."""
        return self.vocab[BOS]

    @property
    def eos(self) -> int:
        r"""Id of the end-of-sequence mark, the largest: CLIP reads its summary of a text there."""
        return self.vocab[EOS]

    @property
    def pad_id(self) -> int:
        r"""Id that fills up a text to `context_length`: eos, or 0 (also the piece "!" inside a word)."""
        return self.eos if self.pad == "eos" else 0

    @property
    def vocab_size(self) -> int:
        r"""Number of ids: rows of the text encoder's embedding table."""
        return len(self.vocab)

    def words(self, text: str) -> list[str]:
        r"""The cleaned words that are encoded one by one: "A  Cat's" -> ["a", "cat", "'s"]."""
        return split_words(text, self.clean, self._special)

    def encode(self, text: str) -> list[int]:
        r"""Ids of the content alone, of any length: no bos, no eos, no padding.

        Any string has ids; raises `LdmError` for what is no string.
        """
        return [number for word in self.words(text) for number in self._encode_word(word)]

    def _encode_word(self, word: str) -> tuple[int, ...]:
        if word in self._cache:
            return self._cache[word]
        symbols = merge_word(word_symbols(word), self._ranks)
        numbers = tuple(self.vocab[symbol] for symbol in symbols)
        if len(self._cache) < _CACHE_LIMIT:
            self._cache[word] = numbers
        return numbers

    def pieces(self, text: str) -> list[str]:
        r"""The pieces behind `encode(text)`, one a position, readable: "lower" -> ["low", "er</w>"].

        Bytes that are no whole character (an emoji cut in two) are written `\xf0`.
        """
        return [
            symbol_bytes(token).decode(errors="backslashreplace")
            + (END_OF_WORD if token.endswith(END_OF_WORD) else "")
            for token in (self._tokens[number] for number in self.encode(text))
        ]

    def decode(self, ids: Iterable[int] | Int[Tensor, "n"]) -> str:
        r"""Text of some ids: bos is skipped, the first eos ends it, a space follows every finished word.

        The cleaned text comes back, with the spaces the cutting made ("a cat 's"); bytes that are no whole
        character become U+FFFD. Raises `LdmError` for an id outside the vocabulary.
        """
        data = bytearray()
        for number in map(int, ids):
            if number == self.eos:
                break
            if not 0 <= number < self.vocab_size:
                raise LdmError(f"id {number}: expected 0 to {self.vocab_size - 1}; ids of another tokenizer?")
            if number != self.bos:
                token = self._tokens[number]
                data += symbol_bytes(token) + b" " * token.endswith(END_OF_WORD)
        return data.decode(errors="replace").rstrip(" ")

    def __call__(self, texts: str | Sequence[str]) -> Int[Tensor, "b n"]:
        r"""The ids a text encoder reads: bos, content, eos, padding; one row a text, `context_length` wide.

        A longer text is cut, and its row still ends in eos, where CLIP reads its summary. One string is a
        batch of one.
        """
        rows = []
        for text in [texts] if isinstance(texts, str) else texts:
            row = [self.bos, *self.encode(text)[: self.context_length - 2], self.eos]
            rows.append(row + [self.pad_id] * (self.context_length - len(row)))
        return torch.tensor(rows, dtype=torch.int64, device="cpu").reshape(len(rows), self.context_length)

    def save(self, folder: str | Path) -> None:
        r"""Write the four files transformers' `CLIPTokenizer` reads, each whole or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        pad_token = self._tokens[self.pad_id]
        special = {"bos_token": BOS, "eos_token": EOS, "pad_token": pad_token, "unk_token": EOS}
        config = {
            **special,
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": self.context_length,
            "do_lower_case": True,
            "clean": self.clean,  # ours; transformers passes over it
        }
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in self.merges)]
        contents = {
            "vocab.json": json.dumps(self.vocab, ensure_ascii=False),
            "merges.txt": "\n".join(lines) + "\n",
            "tokenizer_config.json": json.dumps(config, indent=2),
            "special_tokens_map.json": json.dumps(special, indent=2),
        }
        for name, content in contents.items():
            with atomic_path(folder / name) as path:
                path.write_bytes(content.encode())

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        r"""Read a folder that `save` or transformers wrote, in either of its forms (`ldm.text.tokenizer_files`).

        Raises `LdmError` when a file is missing or damaged, or when its vocabulary does not number the pieces the
        way the merges do: the ids would then mean other rows of the embedding table.
        """
        files = read_tokenizer_files(Path(folder))
        pad: Pad = "eos" if files.pad == EOS else "zero"
        clean: Any = files.clean or "openai"
        tokenizer = cls(files.merges, files.context_length, pad, clean)
        if files.vocab != tokenizer.vocab:
            raise LdmError(
                f"{folder}: its vocabulary ({len(files.vocab)} pieces) does not number the pieces as its merges do "
                f"({tokenizer.vocab_size} pieces); fetch the folder again, from one place"
            )
        return tokenizer
