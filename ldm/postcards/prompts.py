r"""Prompts that people might type, written by hand, each with the facts that its image must show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ldm.errors import LdmError
from ldm.files.read_write import LARGEST_TEXT, read_text

FILES = {"natural": "prompts.txt", "typos": "prompts_with_typos.txt"}


@dataclass(frozen=True)
class Prompt:
    r"""A prompt and the facts that it asks for (see `facts.py`)."""

    text: str
    facts: frozenset[str]


@cache
def handwritten(kind: str | None = None) -> tuple[Prompt, ...]:
    r"""The prompts of a kind, "natural" or "typos", or of both.

    Each line of a file is a prompt, "|", and its facts, separated by commas; lines that begin with "#" are comments.
    Raises LdmError for an unknown kind.
    """
    if kind is not None and kind not in FILES:
        raise LdmError(
            f"prompts of the kind {kind!r}: expected one of {', '.join(map(repr, FILES))}, or None"
        )
    found = []
    for name in FILES.values() if kind is None else (FILES[kind],):
        for line in read_text(Path(__file__).parent / name, LARGEST_TEXT).splitlines():
            if line and not line.startswith("#"):
                text, _, asked = line.partition("|")
                found.append(Prompt(text.strip(), frozenset(fact.strip() for fact in asked.split(","))))
    return tuple(found)
