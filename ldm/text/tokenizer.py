r"""Text to ids and back: CLIP's byte-pair tokenizer.

It splits a text into words (`ldm.text.pretokenize`), merges the bytes of each word (`ldm.text.bpe`), and looks up each
token's id. With the three merges `l o`, `lo w`, `e r</w>`, "lower" is two tokens, `low er</w>`.

Why 77: CLIP's table of position embeddings has 77 rows, so every text becomes exactly 77 ids: bos, the ids of up to 75
tokens, eos, padding.

Why two paddings: the U-Net attends to all 77 positions, padding included, so the padding must be what the weights were
trained with. Stable Diffusion 1 was trained with transformers' tokenizer, which repeats eos; Stable Diffusion 2 with
open_clip's, which fills with 0 as OpenAI's own `clip.tokenize` does. (SDXL has two text encoders, and uses one of
each.)

Source: Radford et al. 2021, section 2.4.
"""

import copy
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from ldm.errors import LdmError, shown
from ldm.files.read_write import atomic_path
from ldm.text.bpe import Pair
from ldm.text.fast_bpe import merge_word_fast
from ldm.text.learned import Learned, learn
from ldm.text.merges import read_clip_merges
from ldm.text.pretokenize import (
    BOS,
    END_OF_WORD,
    EOS,
    Clean,
    base_tokens,
    byte_tokens,
    split_words,
    token_bytes,
)
from ldm.text.tokenizer_files import read_tokenizer_files

Pad = Literal["eos", "zero"]

_CACHE_LIMIT = 100_000  # words; further new words are encoded but not cached


class Tokenizer:
    r"""Text to ids and back, given the merges.

    Ids: 256 bytes, 256 bytes that end a word, one per merge (in the order learned; a token that two merges can make
    counts once), then bos and eos. CLIP's own merges give 49,408, with bos 49406 and eos 49407.
    """

    def __init__(
        self,
        merges: Sequence[Pair],
        context_length: int = 77,
        pad: Pad = "eos",
        clean: Clean = "openai",
    ) -> None:
        r"""`clean` names the normalisation of texts (`ldm.text.pretokenize`).

        Raises `LdmError` for an unknown option, or for a merge of a token that no earlier merge makes.
        """
        if pad not in get_args(Pad) or clean not in get_args(Clean):
            raise LdmError(
                f"pad {shown(pad)}, clean {shown(clean)}: expected {get_args(Pad)}, {get_args(Clean)}"
            )
        if type(context_length) is not int or not 2 <= context_length <= 10_000:  # 2: for bos and eos
            raise LdmError(f"context_length {shown(context_length)}: expected a whole number of at least 2")
        self.merges = tuple((left, right) for left, right in merges)
        self.context_length, self.pad, self.clean = context_length, pad, clean
        vocab = {token: id_ for id_, token in enumerate(base_tokens())}
        for left, right in self.merges:
            if left not in vocab or right not in vocab:
                raise LdmError(
                    f"merge {left!r} {right!r}: one of the two is neither a byte nor made by an earlier merge"
                )
            vocab.setdefault(left + right, len(vocab))
        self.bos = len(vocab)  # the id of the beginning-of-sequence token
        self.eos = len(vocab) + 1  # the largest id: CLIP pools there (`ldm.text.encoder.pool`)
        self.vocab = vocab | {BOS: self.bos, EOS: self.eos}
        self.vocab_size = len(self.vocab)  # number of ids: rows of the text encoder's embedding table
        self._tokens = tuple(self.vocab)
        self._ranks = dict(zip(self.merges, range(len(self.merges))))
        self._cache: dict[str, tuple[int, ...]] = {BOS: (self.bos,), EOS: (self.eos,)}
        if pad == "zero" and clean == "hf":
            self._cache["!"] = (0,)  # transformers' padding token is "!", which it also finds in texts
        self._special = tuple(self._cache)
        self.learned = Learned()

    @classmethod
    def clip(cls, pad: Pad = "eos", clean: Clean = "openai") -> "Tokenizer":
        r"""CLIP's tokenizer, as in Stable Diffusion: `pad="eos"` for version 1, `"zero"` for version 2."""
        return cls(read_clip_merges(), pad=pad, clean=clean)

    @property
    def pad_id(self) -> int:
        r"""Id that fills a sequence up to `context_length`: eos, or 0 (which is also "!" inside a word)."""
        return self.padding(self.pad)

    def padding(self, pad: Pad) -> int:
        r"""The id that another encoder, with the same vocabulary and this way to pad, would be given."""
        return self.eos if pad == "eos" else 0

    def with_words(self, words: Sequence[tuple[Sequence[str], int]]) -> "Tokenizer":
        r"""The same tokenizer with these learned words (`ldm.text.learned.learn`), in place of those that it had."""
        one = copy.copy(self)
        one.learned = learn(words, self.vocab_size)
        plain = {word: ids for word, ids in self._cache.items() if word not in self.learned.ids}
        one._cache = {**plain, **one.learned.ids}
        return one

    def words(self, text: str) -> list[str]:
        r"""The normalised words, which are encoded one by one: "A  Cat's" -> ["a", "cat", "'s"].

        A learned word is one, and comes with a prefix: "a Toy" -> ["a", "embedding:toy"].
        """
        if not self.learned.ids:
            return split_words(text, self.clean, self._special)
        found: list[str] = []
        for is_learned, part in self.learned.split(text):
            found += [part] if is_learned else split_words(part, self.clean, self._special)
        return found

    def encode(self, text: str) -> list[int]:
        r"""The ids of a text of any length. Unlike transformers' `encode`, this adds no bos and no eos.

        Every string can be encoded; raises `LdmError` for anything but a string.
        """
        return [id_ for word in self.words(text) for id_ in self._encode_word(word)]

    def _encode_word(self, word: str) -> tuple[int, ...]:
        if word in self._cache:
            return self._cache[word]
        ids = tuple(self.vocab[token] for token in merge_word_fast(byte_tokens(word), self._ranks))
        if len(self._cache) < _CACHE_LIMIT:
            self._cache[word] = ids
        return ids

    def tokens(self, text: str) -> list[str]:
        r"""The tokens of `encode(text)` in readable form: "lower" -> ["low", "er</w>"].

        Bytes that do not form a whole character (half an emoji) are written like `\xf0`.
        """
        return [self._readable(id_) for id_ in self.encode(text)]

    def _readable(self, id_: int) -> str:
        if id_ >= self.vocab_size:
            return self.learned.tokens[id_ - self.vocab_size]
        token = self._tokens[id_]
        end = END_OF_WORD if token.endswith(END_OF_WORD) else ""
        return token_bytes(token).decode(errors="backslashreplace") + end

    def decode(self, ids: Iterable[int] | Int[Tensor, "n"]) -> str:
        r"""The text that ids stand for, up to the first eos; bos is skipped, and a space follows each word.

        This is the normalised text, with spaces between the words that it was split into ("a cat 's"); bytes that do
        not form a whole character become U+FFFD. Raises `LdmError` for an id outside the vocabulary.
        """
        data, most = bytearray(), self.vocab_size + len(self.learned.tokens) - 1
        for id_ in map(int, ids):
            if id_ == self.eos:
                break
            if not 0 <= id_ <= most:
                raise LdmError(f"id {id_}: expected 0 to {most}; ids of another tokenizer?")
            if id_ >= self.vocab_size:
                data += self._readable(id_).removesuffix(END_OF_WORD).encode() + b" "
            elif id_ != self.bos:
                token = self._tokens[id_]
                data += token_bytes(token) + b" " * token.endswith(END_OF_WORD)
        return data.decode(errors="replace").rstrip(" ")

    def __call__(self, texts: str | Sequence[str]) -> Int[Tensor, "b n"]:
        r"""The ids that a text encoder reads, one row of `context_length` per text: bos, the text's ids, eos, padding.

        A text that is too long is truncated silently; its row still ends in eos, where CLIP pools. One string is a
        batch of one.
        """
        rows = []
        for text in [texts] if isinstance(texts, str) else texts:
            row = [self.bos, *self.encode(text)[: self.context_length - 2], self.eos]
            rows.append(row + [self.pad_id] * (self.context_length - len(row)))
        return torch.tensor(rows, dtype=torch.int64, device="cpu").reshape(len(rows), self.context_length)

    def save(self, folder: str | Path, pad: Pad | None = None) -> None:
        r"""Write the four files that transformers' `CLIPTokenizer` reads, each atomically; `pad` replaces its own."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        pad_token = self._tokens[self.padding(pad or self.pad)]
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

        Raises `LdmError` if a file is missing or damaged, or if the vocabulary and the merges disagree on an id, which
        would look up the wrong row of the embedding table.
        """
        files = read_tokenizer_files(Path(folder))
        pad: Pad = "eos" if files.pad == EOS else "zero"
        clean: Any = files.clean or "openai"
        tokenizer = cls(files.merges, files.context_length, pad, clean)
        if files.vocab != tokenizer.vocab:
            raise LdmError(
                f"{folder}: its vocabulary ({len(files.vocab)} tokens) and its merges ({tokenizer.vocab_size} tokens) "
                "disagree; fetch the folder again, all files from one place"
            )
        return tokenizer
