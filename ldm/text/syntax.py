r"""Warns about syntax of other programs in a prompt.

Prompts are often copied from other programs, together with their syntax:

    <lyco:name:0.8>          load a LyCORIS file
    a cat BREAK a dog        begin a new chunk of 75 tokens
    a cat AND a dog          two prompts, whose predictions are added
    [cat:dog:0.5] [cat|dog]  switch the prompt at some step, or alternate at each step
    embedding:name           a learned word (one that was loaded works: `ldm.text.learned`)
    {red|blue} __color__     pick one at random
    --ar 16:9                options on a command line

None of this works here: it is read as plain words, and a warning says so. Weights, `(word:1.3)` and `[word]`, do work
(`ldm.text.weighting`). So does `<lora:name:0.8>`, which `generate` takes out of the prompt (`ldm.adapters.tags`); it is
warned about where it does not: in a negative prompt, or in text that is encoded alone.
"""

import re
import warnings
from collections.abc import Iterable

from ldm.errors import some

# Every repetition is bounded, so the search takes time proportional to the length of the text.
_PASSAGE = re.compile(
    r"""
    <\s?(?:lora|lyco|hypernet|embedding|segment)\s?:[^<>]{0,200}>
    | (?<!\\)\[[^\[\]]{0,500}\]
    | (?<!\\)\{[^{}]{0,500}\}
    | (?<!\w)__[\w/*-]{1,100}?__(?!\w)
    | (?<!\w)embedding:[^\s,()\[\]]{1,100}
    | (?<!\S)--[a-z]{1,20}(?:\s[0-9][0-9.:]{0,20})?(?!\S)
    | (?<![\w'-])(?:BREAK|AND)(?![\w'-])
    """,
    re.VERBOSE,
)
_CAPITALS_BEFORE, _CAPITALS_AFTER = re.compile(r"(?<!\w)[A-Z]+\W+$"), re.compile(r"\W+[A-Z]+(?!\w)")
# In brackets: when to switch, as a step or a fraction of the steps.
_SWITCH = re.compile(r":\s?(?:[0-9]{1,9}\.?[0-9]{0,9}|\.[0-9]{1,9})\s?\]$")


def foreign_syntax(text: str) -> list[str]:
    r"""The passages that mean something to other programs, each once: "BREAK <lora:x:1>" -> ["BREAK", "<lora:x:1>"].

    "and" and "break" are plain words; so are "AND" and "BREAK" between words in capitals, as in "WAR AND PEACE".
    """
    found: dict[str, None] = {}
    for match in _PASSAGE.finditer(text):
        before = text[max(0, match.start() - 100) : match.start()]
        if _is_syntax(match.group(), before, text[match.end() : match.end() + 100]):
            found[match.group()] = None
    return list(found)


def _is_syntax(passage: str, before: str, after: str) -> bool:
    match passage[0]:
        case "[":
            return "|" in passage or _SWITCH.search(passage) is not None
        case "{":
            return "|" in passage
        case "_":
            return passage.strip("_") != ""
        case "B" | "A":
            return not (_CAPITALS_BEFORE.search(before) and _CAPITALS_AFTER.match(after))
        case _:
            return True


def warn_of_syntax(prompts: Iterable[str]) -> None:
    """Warn, once for all of these prompts, about syntax that is read as plain words."""
    found = list(dict.fromkeys(passage for prompt in prompts for passage in foreign_syntax(prompt)))
    if found:
        shown = some(found, most=5, longest=40)
        warnings.warn(
            f"read as plain words: {shown}. This is syntax of other programs and has no effect here",
            stacklevel=2,
        )
