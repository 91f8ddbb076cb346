r"""Syntax of other programs in a prompt, which is read here as plain words.

Prompts are copied along with what they told another program:

    <lora:name:0.8>          load a LoRA
    a cat BREAK a dog        begin a new chunk of 75 tokens
    a cat AND a dog          two prompts, whose predictions are added
    [cat:dog:0.5] [cat|dog]  another prompt from a step on, or at every other step
    embedding:name           a textual inversion
    {red|blue} __color__     draw one of several
    --ar 16:9                options on a command line

None of it does anything here, except that its words are read as words. So whoever uses it is told. Weights,
`(word:1.3)` and `[word]`, are not among them: those work (`ldm.text.weighting`).
"""

import re
import warnings
from collections.abc import Iterable

# Every passage has a longest form: so a long text is read in a time proportional to its length.
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
_SHOUTED_BEFORE, _SHOUTED_AFTER = re.compile(r"(?<!\w)[A-Z]+\W+$"), re.compile(r"\W+[A-Z]+(?!\w)")
_WHEN = re.compile(
    r":\s?(?:[0-9]{1,9}\.?[0-9]{0,9}|\.[0-9]{1,9})\s?\]$"
)  # the step, or the share of the steps
LONGEST, MOST = 40, 5  # characters of one passage that are shown, and passages


def foreign_syntax(text: str) -> list[str]:
    r"""The passages that mean something to other programs, each once: "BREAK <lora:x:1>" -> ["BREAK", "<lora:x:1>"].

    "and" and "break" are words; so are those in capitals among words in capitals, as in "the title WAR AND PEACE".
    """
    found: dict[str, None] = {}
    for match in _PASSAGE.finditer(text):
        before, after = (
            text[max(0, match.start() - 100) : match.start()],
            text[match.end() : match.end() + 100],
        )
        if _means_something(match.group(), before, after):
            found[match.group()] = None
    return list(found)


def _means_something(passage: str, before: str, after: str) -> bool:
    match passage[0]:
        case "[":  # one prompt instead of another at every other step, or from a step on
            return (
                "|" in passage
                or re.search(r":\s?(?:[0-9]{1,9}\.?[0-9]{0,9}|\.[0-9]{1,9})\s?\]$", passage) is not None
            )
        case "{":
            return "|" in passage
        case "_":
            return passage.strip("_") != ""
        case "B" | "A":
            return not (_SHOUTED_BEFORE.search(before) and _SHOUTED_AFTER.match(after))
        case _:
            return True


def warn_of_syntax(prompts: Iterable[str]) -> None:
    """Warn, once for all of these prompts, of what in them is read as plain words."""
    found = list(dict.fromkeys(passage for prompt in prompts for passage in foreign_syntax(prompt)))
    if found:
        shown = ", ".join(word if len(word) <= LONGEST else f"{word[:LONGEST]}..." for word in found[:MOST])
        more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
        warnings.warn(
            f"read as plain words: {shown}{more}. That is syntax of other programs, and does nothing here",
            stacklevel=2,
        )
