r"""Files of merges, among them CLIP's own, which comes with this package.

A file lists one merge per line, "l o", in the order learned, after a version line (`#version: 0.2`).
"""

import gzip
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from ldm.errors import LdmError
from ldm.text.bpe import Pair

CLIP_MERGES = Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
CLIP_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
# CLIP's vocabulary without the bytes (with and without </w>) and the two special tokens. The file lists over 262,000.
CLIP_MERGE_COUNT = 49_408 - 2 * 256 - 2


@lru_cache(maxsize=1)
def read_clip_merges(path: Path = CLIP_MERGES) -> tuple[Pair, ...]:
    r"""CLIP's 48,894 merges, in the order learned, from the file OpenAI published.

    Raises `LdmError` when the file is missing or differs from the published one by even a single byte: one wrong merge
    would shift every later id and silently turn prompts into different ones.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LdmError(f"cannot read CLIP's merges {path}: {error}; install ldm again") from error
    found = hashlib.sha256(data).hexdigest()
    if found != CLIP_SHA256:
        raise LdmError(f"{path} is damaged: sha256 {found}, expected {CLIP_SHA256}; install ldm again")
    lines = gzip.decompress(data).decode().splitlines()[1:]  # the first is the version line
    return parse_merges(lines[:CLIP_MERGE_COUNT], str(path), CLIP_MERGE_COUNT)


def parse_merges(lines: Iterable[str], source: str, expected: int | None = None) -> tuple[Pair, ...]:
    r"""Merges from lines of two tokens separated by a space, without the version line.

    Raises `LdmError` naming the first malformed line, or if the number of lines is not `expected`.
    """
    merges = []
    for number, line in enumerate(lines, start=2):  # line 1 is the version line
        match line.split(" "):
            case [left, right] if left and right:
                merges.append((left, right))
            case _:
                raise LdmError(
                    f"{source}, line {number}: got {line!r}, expected two tokens separated by a space"
                )
    if expected is not None and len(merges) != expected:
        raise LdmError(f"{source}: got {len(merges)} merges, expected {expected}; the file is cut short")
    return tuple(merges)
