r"""From text to token ids, the first step: a text becomes words, and each word its bytes.

A network reads numbers, so a text is split into *tokens* from a fixed vocabulary, and each token has a number, its id.
What should a token be? With letters, any word can be written, but texts become long; with whole words, texts are short,
but every new word is unknown. *Byte-pair encoding* lies in between: each word starts as single bytes, and adjacent
tokens are merged, in the order in which the merges were learned from a corpus. Frequent words become one token, rare
ones several. The steps:

1. Here, a text is normalised and split into words, and a word into bytes: "lower" -> `l o w e r</w>`.
2. `ldm.text.bpe` learns merges, and applies them: `l o w e r</w>` -> `low er</w>`.
3. `ldm.text.tokenizer` looks up the ids, and adds special tokens and padding.

Why bytes: with the 256 bytes of UTF-8 as its first tokens, a fixed vocabulary can write *every* text, Hindi and emoji
included. There is no unknown token.

Why `</w>`, the suffix of a token that ends a word: "er" at the end of a word ("lower") and "er" at the start of one
("era") mean different things, and without it nothing would say where the spaces go when ids become text again.

A prompt must be normalised as in training, or the network reads ids other than those it learned. So the normalisation
is part of the model; two are implemented:

- `"openai"`, the default: CLIP's own, with which Stable Diffusion was trained (version 1 through transformers' slow
  tokenizer with ftfy, version 2 through open_clip's copy of OpenAI's code).
- `"hf"`: what transformers' tokenizer does today, to compare with programs built on it.

They agree on ordinary prompts, including accents, Hindi, Chinese and digits. They differ where `"openai"` repairs the
text (curly quotes, ligatures, full-width letters, broken encodings, control characters, HTML entities), and in the
Greek final sigma.

Sources: Sennrich, Haddow and Birch 2016, section 3.2 (byte pairs inside words); Radford et al. 2019, section 2.2
(bytes).
"""

import html
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import ftfy
import regex

from ldm.errors import LdmError

Clean = Literal["openai", "hf"]

BOS, EOS = "<|startoftext|>", "<|endoftext|>"  # special tokens: beginning and end of a sequence
END_OF_WORD = "</w>"

# English endings, runs of letters, single digits, runs of anything else. Digits stay separate so that ten tokens spell
# any number, and "1990" and "1991" differ in only one token.
_WORD = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_WORD_OR_SPECIAL = f"{regex.escape(BOS)}|{regex.escape(EOS)}|{_WORD}"
_WORDS_ANY_CASE = regex.compile(_WORD_OR_SPECIAL, regex.IGNORECASE)
_WORDS, _PLAIN_WORDS = regex.compile(_WORD_OR_SPECIAL), regex.compile(_WORD)


def clean_openai(text: str) -> str:
    r"""Repair, unescape and lowercase a text as OpenAI's CLIP does: " Tom &amp;amp; “Jerry” " -> 'tom & "jerry"'.

    ftfy repairs broken encodings, straightens curly quotes, expands ligatures, replaces full-width letters and removes
    control characters. HTML entities are unescaped twice, because captions from the web are often escaped twice. Runs
    of white space become one space.
    """
    text = ftfy.fix_text(_without_surrogates(text))
    try:
        text = html.unescape(html.unescape(text))
    except ValueError:
        pass  # an entity with thousands of digits, which Python refuses to parse: unchanged
    return regex.sub(r"\s+", " ", text.strip()).lower()


def clean_hf(text: str) -> str:
    r"""Normalise a text as transformers 5's `CLIPTokenizer` does: accents composed, single spaces, lowercase.

    It repairs nothing. Characters are lowercased one by one, so a capital sigma at the end of a Greek word becomes σ,
    where `str.lower` writes the final form ς.
    """
    text = unicodedata.normalize("NFC", _without_surrogates(text))
    return "".join(character.lower() for character in regex.sub(r"\s+", " ", text))


def _without_surrogates(text: str) -> str:
    # A lone half of a UTF-16 surrogate pair cannot be encoded as UTF-8, so it becomes U+FFFD, the replacement character
    # (OpenAI leaves that to ftfy, transformers raises an error). Two matching halves are joined.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def split_words(text: str, clean: Clean = "openai", special: Sequence[str] = (BOS, EOS)) -> list[str]:
    r"""Normalise a text and split it into words: "A cat's 42!" -> ["a", "cat", "'s", "4", "2", "!"].

    A literal `<|startoftext|>` or `<|endoftext|>` stays whole and becomes that special token, as in OpenAI's and
    transformers' tokenizers. OpenAI's code searches the normalised text, so `<|ENDOFTEXT|>` matches too; transformers
    searches the raw text, for all `special` tokens.

    `clean` names the normalisation. Raises `LdmError` for an unknown one, or for anything but a string.
    """
    if not isinstance(text, str):
        raise LdmError(f"cannot tokenize {type(text).__name__}: expected a string (decode bytes first)")
    if clean == "openai":
        return _WORDS_ANY_CASE.findall(clean_openai(text))
    if clean != "hf":
        raise LdmError(f"clean {clean!r}: expected 'openai' or 'hf'")
    words = []
    for part in regex.split("(" + "|".join(map(regex.escape, special)) + ")", text):
        if part in special:
            words.append(part)
        else:  # split twice, as transformers does: so a special token in capitals becomes three words
            words += [word for run in _WORDS.findall(clean_hf(part)) for word in _PLAIN_WORDS.findall(run)]
    return words


@lru_cache
def byte_alphabet() -> tuple[str, ...]:
    r"""The printable character that stands for each byte: `byte_alphabet()[0x61] == "a"`.

    Merges are stored as text, separated by spaces and line ends, so no byte may look like a space or a control
    character. The 188 printable bytes of Latin-1 stand for themselves; the other 68, in order, are written as the
    characters from U+0100 on: the space (0x20) as "Ġ", the line feed (0x0A) as "Ċ". "é", two bytes in UTF-8 (C3 A9),
    is written "Ã©". Source: Radford et al. 2019 (GPT-2), the released encoder.
    """
    printable = _printable_bytes()
    others = (byte for byte in range(256) if byte not in printable)
    table = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return tuple(table[byte] for byte in range(256))


def _printable_bytes() -> list[int]:
    # Latin-1 without the space, the control characters, the no-break space (A0) and the soft hyphen (AD).
    return [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]


def base_tokens() -> list[str]:
    r"""The 512 tokens every vocabulary starts with: each byte inside a word, then each byte that ends one.

    CLIP numbers the printable bytes first, so "!" (0x21) is id 0 and "a" is id 64, not 97.
    """
    printable = _printable_bytes()
    order = [*printable, *(byte for byte in range(256) if byte not in printable)]
    inside = [byte_alphabet()[byte] for byte in order]
    return inside + [token + END_OF_WORD for token in inside]


def byte_tokens(word: str) -> tuple[str, ...]:
    r"""A word as single bytes, the last one with the suffix: "lower" -> ("l", "o", "w", "e", "r</w>")."""
    tokens = [byte_alphabet()[byte] for byte in word.encode()]
    return (*tokens[:-1], tokens[-1] + END_OF_WORD)


def token_bytes(token: str) -> bytes:
    r"""The bytes that a token stands for, without the end-of-word suffix: "Ã©</w>" -> b"\xc3\xa9"."""
    return bytes(_byte_of()[character] for character in token.removesuffix(END_OF_WORD))


@lru_cache
def _byte_of() -> dict[str, int]:
    return {character: byte for byte, character in enumerate(byte_alphabet())}
