"""A tokenizer's folder as transformers writes it: the tokens with their ids, and how texts are split and padded.

There are two forms, and a folder may have either or both:

    vocab.json, merges.txt     token -> id, and one merge per line
    tokenizer.json             both in one file, which also describes every step from a text to its ids (the only form
                               that transformers writes from version 5 on)

Beside them, `tokenizer_config.json` and `special_tokens_map.json` name the special tokens. Only CLIP's tokenizer is
supported: anything else in a file is an error, because the ids would be wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm.errors import LdmError, shown, some
from ldm.files.read_write import LARGEST_TEXT, read_table, read_text
from ldm.notes import log
from ldm.text.bpe import Pair
from ldm.text.merges import parse_merges
from ldm.text.pretokenize import BOS, END_OF_WORD, EOS

CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
OPTIONS = ("special_tokens_map.json", "tokenizer_config.json")

# How tokenizer.json describes CLIP's normalisation (transformers' version of it) and splitting.
NORMALIZERS = ["NFC", "Replace", "Lowercase"]
WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
MODEL = {
    "type": ("BPE",),
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (END_OF_WORD,),
    "byte_fallback": (False,),
    "ignore_merges": (False,),
}


@dataclass(frozen=True)
class TokenizerFiles:
    """The contents of a tokenizer's folder."""

    vocab: Mapping[str, Any]  # as in the file, not yet compared with the ids that follow from the merges
    merges: tuple[Pair, ...]
    context_length: int
    pad: str  # the padding token
    clean: str | None  # our own entry in tokenizer_config.json; without it "hf" for a tokenizer.json


def read_tokenizer_files(folder: Path) -> TokenizerFiles:
    """Read a tokenizer's folder. Raises `LdmError` if it is incomplete, damaged, contradictory or not CLIP's."""
    single, pair = folder / "tokenizer.json", (folder / "vocab.json", folder / "merges.txt")
    missing = [path.name for path in pair if not path.exists()]
    if not single.exists() and missing:
        raise LdmError(
            f"{folder} has no {' and no '.join(missing)}; expected tokenizer.json, or vocab.json and merges.txt: "
            "fetch the folder again"
        )
    vocab, merges, clean = _read_single(single) if single.exists() else ({}, (), None)
    if not missing:
        other, lines = read_table(pair[0]), read_text(pair[1], LARGEST_TEXT).splitlines()
        listed = parse_merges(lines[1:], str(pair[1]))
        if single.exists() and (listed != merges or {**vocab, **other} != vocab):
            raise LdmError(
                f"{single} does not match vocab.json and merges.txt beside it; remove the wrong one"
            )
        vocab, merges = vocab or other, listed
    options = _read_options(folder)
    extra = folder / "added_tokens.json"
    added = [word for word in read_table(extra) if word not in vocab] if extra.exists() else []
    if added:
        raise _words_were_added(extra, added)
    length = options.get("model_max_length", 77)
    if type(length) is not int or length > 10_000:  # transformers writes 1e30 for "not set"
        raise LdmError(f"{folder}: model_max_length {shown(length)}, expected a whole number such as 77")
    clean = options.get("clean", clean)
    if not isinstance(clean, str | None):
        raise LdmError(f"{folder}: clean {shown(clean)}, expected a string")
    return TokenizerFiles(vocab, merges, length, options["pad_token"], clean)


def _read_single(path: Path) -> tuple[dict[str, Any], tuple[Pair, ...], str]:
    """The vocabulary, the merges and the normalisation of a tokenizer.json."""
    table = read_table(path)
    model = table.get("model")
    if not isinstance(model, dict):
        raise LdmError(f"{path} has no model; fetch it again")
    for key, good in MODEL.items():
        if key in model and model[key] not in good:
            raise LdmError(
                f"{path}: its model has {key} = {str(model[key])[:60]!r}; expected {good[0]!r}, CLIP's"
            )
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise LdmError(f"{path}: its model has no vocab and merges; fetch it again")
    _check_steps(path, table)
    lines = []
    for merge in merges:  # newer versions write a list of two tokens, older ones a line
        tokens = merge if isinstance(merge, list) else [merge]
        if not all(isinstance(token, str) for token in tokens):
            raise LdmError(f"{path}: got the merge {str(merge)[:60]}, expected two tokens")
        lines.append(" ".join(tokens))
    pairs = parse_merges(lines, f"{path}, its merges")
    return vocab | _special_tokens(path, table, vocab), pairs, "hf"


def _check_steps(path: Path, table: Mapping[str, Any]) -> None:
    """Raise `LdmError` if texts are normalised or split differently from CLIP's."""
    normalizers = [str(step.get("type")) for step in _steps(table.get("normalizer"), "normalizers")]
    if normalizers != NORMALIZERS:
        found, expected = ", ".join(normalizers) or "nothing", ", ".join(NORMALIZERS)
        raise LdmError(f"{path}: it normalises texts with {found[:80]}; expected {expected}")
    splitting = _steps(table.get("pre_tokenizer"), "pretokenizers")
    split = splitting[0].get("pattern") if splitting else None
    pattern = split.get("Regex") if isinstance(split, dict) else None
    if not isinstance(pattern, str) or not pattern.endswith(WORD) or splitting[-1].get("type") != "ByteLevel":
        raise LdmError(
            f"{path}: it splits texts at {str(pattern)[:80]!r}; expected CLIP's pattern, then bytes"
        )


def _steps(step: Any, inside: str) -> list[dict[str, Any]]:
    """The steps of a Sequence, or a single step, as a list."""
    if isinstance(step, dict) and step.get("type") == "Sequence":
        step = step.get(inside)
    steps = step if isinstance(step, list) else [step]
    return [step for step in steps if isinstance(step, dict)]


def _special_tokens(path: Path, table: Mapping[str, Any], vocab: Mapping[str, Any]) -> dict[str, Any]:
    """The ids of the tokens that are found in a text before it is split: bos, eos, and "!" if that is the padding."""
    tokens = table.get("added_tokens") or []
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise LdmError(f"{path}: its added_tokens is not a list of objects; fetch it again")
    ids = {str(token.get("content")): token.get("id") for token in tokens}
    added = [word for word in ids if word not in (BOS, EOS, "!")]
    if added:
        raise _words_were_added(path, added)
    wrong = [word for word, id_ in ids.items() if vocab.get(word, id_) != id_]
    if wrong:
        raise LdmError(
            f"{path}: {wrong[0]!r} has the id {shown(ids[wrong[0]])} in added_tokens and "
            f"{shown(vocab[wrong[0]])} in the vocabulary; fetch it again"
        )
    return ids


def _words_were_added(path: Path, words: list[str]) -> LdmError:
    return LdmError(
        f"{path}: the word {some([*map(repr, words)], 1, 60)} was added to CLIP's vocabulary, as textual inversion "
        "does; take the model's own tokenizer, and give the word's file with --embedding"
    )


def _read_options(folder: Path) -> dict[str, Any]:
    """The options of both files, with special tokens as plain strings. `pad_token` is always present.

    Where the files differ, `special_tokens_map.json` wins, as in transformers: in Stable Diffusion 2's folders only
    this file says that "!" is the padding.
    """
    options: dict[str, Any] = {}
    for name in OPTIONS:
        if not (folder / name).exists():
            continue
        for key, value in read_table(folder / name).items():
            # a special token may be an object: {"content": "!", "lstrip": false, ...}
            value = value.get("content") if key.endswith("_token") and isinstance(value, dict) else value
            if options.setdefault(key, value) != value:
                theirs, mine = shown(value), shown(options[key])
                log.info("%s: %s has %s = %s; using %s from %s", folder, name, key, theirs, mine, OPTIONS[0])
    expected = {"bos_token": (BOS,), "eos_token": (EOS,), "pad_token": (EOS, "!"), "tokenizer_class": CLASSES}
    for key, good in expected.items():
        if options.setdefault(key, good[0]) not in good:
            hint = f"{EOS!r} or '!', which is id 0" if key == "pad_token" else " or ".join(map(repr, good))
            raise LdmError(f"{folder}: {key} {shown(options[key])}, expected {hint}")
    return options
