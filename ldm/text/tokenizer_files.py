r"""A tokenizer's folder as transformers writes it: which pieces, numbered how, and how a text is cut and padded.

There are two forms, and a folder may have either or both:

    vocab.json, merges.txt     piece -> id, and the merges one a line
    tokenizer.json             both in one table, and every step from a text to its ids in words (the only one that
                               transformers writes from version 5 on)

Beside them, `tokenizer_config.json` and `special_tokens_map.json` name the marks and the padding. Only what CLIP's
tokenizer does is supported; what a file says otherwise is an error, because the ids would be wrong.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm.errors import LdmError, shown
from ldm.files.read_write import read_json, read_text
from ldm.text.merges import Pair, parse_merges
from ldm.text.pretokenize import BOS, END_OF_WORD, EOS

log = logging.getLogger("ldm")

LARGEST = 16_000_000  # bytes; CLIP's tokenizer.json has 3.6 million
CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
OPTIONS = ("special_tokens_map.json", "tokenizer_config.json")

# How tokenizer.json describes CLIP's cleaning (transformers' form of it) and cutting.
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
    """What a folder says."""

    vocab: Mapping[
        str, Any
    ]  # ids as they stand in the file, not yet compared with those that the merges make
    merges: tuple[Pair, ...]
    context_length: int
    pad: str  # the text of the padding
    clean: str | None  # this project's own word; else "hf" if tokenizer.json describes transformers' cleaning


def read_tokenizer_files(folder: Path) -> TokenizerFiles:
    """Read a tokenizer's folder. Raises `LdmError` for what is missing, damaged, contradictory or not CLIP's."""
    one, two = folder / "tokenizer.json", (folder / "vocab.json", folder / "merges.txt")
    missing = [path.name for path in two if not path.exists()]
    if not one.exists() and missing:
        raise LdmError(
            f"{folder} has no {' and no '.join(missing)}; expected tokenizer.json, or vocab.json and merges.txt: "
            "fetch the folder again"
        )
    vocab, merges, clean = _read_one(one) if one.exists() else ({}, (), None)
    if not missing:
        other, lines = _read_table(two[0]), read_text(two[1], LARGEST).splitlines()
        pairs = parse_merges(lines[1:], str(two[1]))
        if one.exists() and (pairs != merges or {**vocab, **other} != vocab):
            raise LdmError(
                f"{one} has other pieces than vocab.json and merges.txt beside it; take out the wrong ones"
            )
        vocab, merges = vocab or other, pairs
    options = _read_options(folder)
    extra = folder / "added_tokens.json"
    added = [word for word in _read_table(extra) if word not in vocab] if extra.exists() else []
    if added:
        raise _words_were_added(extra, added)
    length = options.get("model_max_length", 77)
    if type(length) is not int or length > 10_000:  # transformers writes 1e30 where nobody set it
        raise LdmError(f"{folder}: model_max_length {shown(length)}, expected a whole number such as 77")
    clean = options.get("clean", clean)
    if not isinstance(clean, str | None):
        raise LdmError(f"{folder}: clean {shown(clean)}, expected a word")
    return TokenizerFiles(vocab, merges, length, options["pad_token"], clean)


def _read_one(path: Path) -> tuple[dict[str, Any], tuple[Pair, ...], str]:
    """Ids, merges and cleaning from a tokenizer.json."""
    whole = _read_table(path)
    model = whole.get("model")
    if not isinstance(model, dict):
        raise LdmError(f"{path} has no model in it; fetch it again")
    for key, good in MODEL.items():
        if key in model and model[key] not in good:
            raise LdmError(
                f"{path}: its model has {key} = {str(model[key])[:60]!r}; expected {good[0]!r}, CLIP's"
            )
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise LdmError(f"{path}: its model has no vocab and merges; fetch it again")
    _demand_clip_steps(path, whole)
    lines = (line if isinstance(line, str) else _joined(path, line) for line in merges)
    pairs = parse_merges(lines, f"{path}, its merges")
    return vocab | _added(path, whole, vocab), pairs, "hf"


def _joined(path: Path, pair: Any) -> str:
    """A merge that is a list of two pieces, as a line. (Newer versions write it so, older ones a line.)"""
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(piece, str) for piece in pair):
        raise LdmError(f"{path}: it has a merge {str(pair)[:60]}; expected two pieces")
    return " ".join(pair)


def _demand_clip_steps(path: Path, whole: Mapping[str, Any]) -> None:
    """Raise an `LdmError` if a text is cleaned or cut otherwise than CLIP's are."""
    cleaning = [str(step.get("type")) for step in _steps(whole.get("normalizer"), "normalizers")]
    if cleaning != NORMALIZERS:
        found, expected = ", ".join(cleaning) or "nothing", ", ".join(NORMALIZERS)
        raise LdmError(f"{path}: it cleans texts by {found[:80]}; expected {expected}")
    cutting = _steps(whole.get("pre_tokenizer"), "pretokenizers")
    split = cutting[0].get("pattern") if cutting else None
    pattern = split.get("Regex") if isinstance(split, dict) else None
    if not isinstance(pattern, str) or not pattern.endswith(WORD) or cutting[-1].get("type") != "ByteLevel":
        raise LdmError(f"{path}: it cuts texts by {str(pattern)[:80]!r}; expected CLIP's pattern, then bytes")


def _steps(step: Any, inside: str) -> list[dict[str, Any]]:
    """The steps of a Sequence, or a single one as a list."""
    if isinstance(step, dict) and step.get("type") == "Sequence":
        step = step.get(inside)
    steps = step if isinstance(step, list) else [step]
    return [step for step in steps if isinstance(step, dict)]


def _added(path: Path, whole: Mapping[str, Any], vocab: Mapping[str, Any]) -> dict[str, Any]:
    """The marks, which are found in a text before it is cut: bos, eos, and "!" where that is the padding."""
    tokens = whole.get("added_tokens") or []
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise LdmError(f"{path}: its added_tokens are no list of tables; fetch it again")
    ids = {str(token.get("content")): token.get("id") for token in tokens}
    added = [word for word in ids if word not in (BOS, EOS, "!")]
    if added:
        raise _words_were_added(path, added)
    wrong = [word for word, number in ids.items() if vocab.get(word, number) != number]
    if wrong:
        raise LdmError(
            f"{path}: {wrong[0]!r} has the id {shown(ids[wrong[0]])} among the marks, and "
            f"{shown(vocab[wrong[0]])} in its vocabulary"
        )
    return ids


def _words_were_added(path: Path, words: list[str]) -> LdmError:
    more = f" and {len(words) - 1} more" if len(words) > 1 else ""
    return LdmError(
        f"{path}: the word {words[0][:60]!r}{more} was added to CLIP's vocabulary, as textual inversion does; "
        "that is not supported yet"
    )


def _read_table(path: Path) -> dict[str, Any]:
    table = read_json(path, LARGEST)
    if not isinstance(table, dict):
        raise LdmError(f"{path}: expected a JSON object, got {type(table).__name__}; fetch it again")
    return table


def _read_options(folder: Path) -> dict[str, Any]:
    """Both tables of options; a mark's text is taken out of its table. `pad_token` is there in any case.

    Where the two differ, `special_tokens_map.json` is followed, as transformers does: in the folders of Stable
    Diffusion 2 it alone says that "!" is the padding.
    """
    options: dict[str, Any] = {}
    for name in OPTIONS:
        if not (folder / name).exists():
            continue
        for key, value in _read_table(folder / name).items():
            # transformers also writes {"content": "!", "lstrip": false, ...}
            value = value.get("content") if key.endswith("_token") and isinstance(value, dict) else value
            if options.setdefault(key, value) != value:
                theirs, mine = shown(value), shown(options[key])
                log.info("%s: %s has %s = %s; taking %s of %s", folder, name, key, theirs, mine, OPTIONS[0])
    expected = {"bos_token": (BOS,), "eos_token": (EOS,), "pad_token": (EOS, "!"), "tokenizer_class": CLASSES}
    for key, good in expected.items():
        if options.setdefault(key, good[0]) not in good:
            hint = f"{EOS!r} or '!', which is id 0" if key == "pad_token" else " or ".join(map(repr, good))
            raise LdmError(f"{folder}: {key} {shown(options[key])}, expected {hint}")
    return options
