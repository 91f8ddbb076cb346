r"""Text to ids and back: CLIP's byte-pair tokenizer.

A network reads numbers, so a text is split into tokens from a fixed vocabulary, each with an id. Byte-pair encoding
lies between letters (any word can be written, but texts become long) and whole words (short, but every new word is
unknown): it starts from letters and merges the neighbours that were most often seen side by side, in the order in which
they were learned (see `ldm.text.bpe`).

With the three merges `l o`, `lo w`, `e r</w>`, the word "lower" shrinks like this:

    l  o  w  e  r</w>        the letters; the last one carries the end-of-word mark
    lo    w  e  r</w>        merge 0: l o
    low      e  r</w>        merge 1: lo w
    low      er</w>          merge 2: e r</w>; no learned pair is left, so "lower" is two tokens

Why `</w>`: "er" closing a word ("lower") and "er" opening one ("era") mean different things, and without the mark
nothing would say where the spaces go when ids become text again.

Why bytes: the "letters" are the 256 possible bytes of UTF-8, so that *every* text, Hindi and emoji included, can be
written with a fixed vocabulary. There is no unknown token.

Why 77: CLIP's table of position embeddings has 77 rows, so every text becomes exactly 77 ids: bos, up to 75 ids of
content, eos, padding.

Why two paddings: the U-Net attends to all 77 positions, padding included, so the padding must be what the weights were
trained with. Stable Diffusion 1 was trained with transformers' tokenizer, which repeats eos; Stable Diffusion 2 with
open_clip's, which fills with 0 as OpenAI's own `clip.tokenize` does. (SDXL has two text encoders, and uses one of
each.)

Left out: how a text becomes words (`ldm.text.pretokenize`), how merges are learned and applied (`ldm.text.bpe`), what
happens to the ids (`ldm.text.encoder`).

Sources: Sennrich, Haddow and Birch 2016, section 3.2 (byte pairs inside words); Radford et al. 2019, section 2.2 (on
bytes); Radford et al. 2021, section 2.4 (CLIP's text encoder).
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from ldm.errors import LdmError, shown
from ldm.files.read_write import atomic_path
from ldm.text.fast_bpe import merge_word_fast
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

_CACHE_LIMIT = 100_000  # words; further new words are encoded but not cached


class Tokenizer:
    r"""Text to ids and back, given the merges.

    Ids: 256 bytes, 256 bytes that end a word, one per merge (in the order learned; a token that two merges can build
    counts once), then bos and eos. CLIP's own merges give 49,408, with bos 49406 and eos 49407.
    """

    def __init__(
        self,
        merges: Sequence[Pair],
        context_length: int = 77,
        pad: Pad = "eos",
        clean: Clean = "openai",
    ) -> None:
        r"""Raises `LdmError` if a merge uses a token that no earlier one makes, or for an unknown option."""
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
                raise LdmError(
                    f"merge {left!r} {right!r}: a part is neither a byte nor made by an earlier merge"
                )
            vocab.setdefault(left + right, len(vocab))
        self.vocab = vocab | {BOS: len(vocab), EOS: len(vocab) + 1}
        self._tokens = tuple(self.vocab)
        self._ranks = dict(zip(self.merges, range(len(self.merges))))
        self._cache: dict[str, tuple[int, ...]] = {BOS: (self.bos,), EOS: (self.eos,)}
        if pad == "zero" and clean == "hf":
            self._cache["!"] = (0,)  # transformers calls the padding "!" and also finds it in texts
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
        r"""Id of the end-of-sequence mark, the largest one: CLIP reads its summary of a text there."""
        return self.vocab[EOS]

    @property
    def pad_id(self) -> int:
        r"""Id that fills a text up to `context_length`: eos, or 0 (which is also "!" inside a word)."""
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

        Any string has ids; raises `LdmError` for anything but a string.
        """
        return [number for word in self.words(text) for number in self._encode_word(word)]

    def _encode_word(self, word: str) -> tuple[int, ...]:
        if word in self._cache:
            return self._cache[word]
        numbers = tuple(self.vocab[token] for token in merge_word_fast(word_symbols(word), self._ranks))
        if len(self._cache) < _CACHE_LIMIT:
            self._cache[word] = numbers
        return numbers

    def pieces(self, text: str) -> list[str]:
        r"""The tokens of `encode(text)` in readable form: "lower" -> ["low", "er</w>"].

        Bytes that are not a whole character (half an emoji) are written `\xf0`.
        """
        return [
            symbol_bytes(token).decode(errors="backslashreplace")
            + (END_OF_WORD if token.endswith(END_OF_WORD) else "")
            for token in (self._tokens[number] for number in self.encode(text))
        ]

    def decode(self, ids: Iterable[int] | Int[Tensor, "n"]) -> str:
        r"""The text of some ids: bos is skipped, the first eos ends it, a space follows every finished word.

        It is the cleaned text, with spaces between the words that it was split into ("a cat 's"); bytes that are not a
        whole character become U+FFFD. Raises `LdmError` for an id outside the vocabulary.
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
        r"""The ids a text encoder reads: bos, content, eos, padding; one row of `context_length` ids per text.

        A longer text is truncated, and its row still ends in eos, where CLIP reads its summary. One string is a batch
        of one.
        """
        rows = []
        for text in [texts] if isinstance(texts, str) else texts:
            row = [self.bos, *self.encode(text)[: self.context_length - 2], self.eos]
            rows.append(row + [self.pad_id] * (self.context_length - len(row)))
        return torch.tensor(rows, dtype=torch.int64, device="cpu").reshape(len(rows), self.context_length)

    def save(self, folder: str | Path) -> None:
        r"""Write the four files that transformers' `CLIPTokenizer` reads, each whole or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        pad_token = self._tokens[self.pad_id]
        special = {"bos_token": BOS, "eos_token": EOS, "pad_token": pad_token, "unk_token": EOS}
        config = {
            **special,
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": self.context_length,
            "do_lower_case": True,
            "clean": self.clean,  # ours; transformers ignores it
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

        Raises `LdmError` if a file is missing or damaged, or if the vocabulary does not number the tokens as the merges
        do: the ids would then mean other rows of the embedding table.
        """
        files = read_tokenizer_files(Path(folder))
        pad: Pad = "eos" if files.pad == EOS else "zero"
        clean: Any = files.clean or "openai"
        tokenizer = cls(files.merges, files.context_length, pad, clean)
        if files.vocab != tokenizer.vocab:
            raise LdmError(
                f"{folder}: its vocabulary ({len(files.vocab)} tokens) does not number the tokens as its merges do "
                f"({tokenizer.vocab_size} tokens); fetch the folder again, all files from one place"
            )
        return tokenizer
