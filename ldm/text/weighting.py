r"""Brackets in a prompt that say how much a word counts: `a (red:1.3) [dog]`.

    (word)       weight 1.1
    [word]       weight 1 / 1.1
    (word:1.3)   weight 1.3; any number, including 0 and negative ones
    ((word))     nested brackets multiply: weight 1.21
    \(word\)     brackets as plain text

The syntax is that of AUTOMATIC1111's web interface (A1111), for which thousands of prompts were written. There are no
syntax errors: a bracket that is never closed applies up to the end; a closing bracket without an opening one is plain
text, and so is a colon unless a number and a closing `)` follow.

Not supported: A1111's `[from:to:0.5]`, which changes the prompt during sampling, `BREAK` and `AND`; they cause a
warning (`ldm.text.syntax`). One difference: a backslash that is not followed by a bracket is kept (A1111 drops it, and
turns `\\` into one).

How the weights are used: `ldm.text.prompt`. Source: A1111's `prompt_parser.parse_prompt_attention` and its
documentation.
"""

import re
from itertools import groupby

UP, DOWN = 1.1, 1 / 1.1

# Backslashes with the bracket after them; a weight with its closing bracket; a bracket. Everything else is text.
_BRACKET = re.compile(r"\\+[()\[\]]|:\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)\s*\)|[()\[\]]")


def weighted_parts(text: str) -> list[tuple[str, float]]:
    r"""The parts of a prompt, each with its weight: "a (red:1.3) dog" -> [("a ", 1.0), ("red", 1.3), (" dog", 1.0)].

    Adjacent parts of equal weight are joined. A text without brackets is one part of weight 1.
    """
    items = _split(text)
    factor = _factors(items)
    parts: list[tuple[str, float]] = []
    # Round and square brackets may cross, "(a [b) c]"; only brackets of one kind are nested. So there are two stacks.
    products = {"(": [1.0], "[": [1.0]}
    for i, (literal, item) in enumerate(items):
        if i in factor:
            stack = products[item]
            stack.append(stack[-1] * factor[i])
        elif not literal:
            products["[" if item == "]" else "("].pop()
        else:
            parts.append((item, products["("][-1] * products["["][-1]))
    merged = [
        ("".join(part for part, _ in same), weight)
        for weight, same in groupby(parts, key=lambda part: part[1])
    ]
    return merged or [("", 1.0)]


def _split(text: str) -> list[tuple[bool, str]]:
    r"""The text as pairs (is it plain text?, string): plain text, opening brackets, closing brackets that match one."""
    items: list[tuple[bool, str]] = []
    opened = {"(": 0, "[": 0}
    position = 0
    for match in _BRACKET.finditer(text):
        items.append((True, text[position : match.start()]))
        position, item = match.end(), match.group()
        if item[0] == "\\":  # two backslashes stand for one; an odd one out makes the bracket plain text
            backslashes, item = len(item) - 1, item[-1]
            items.append((True, "\\" * (backslashes // 2)))
            if backslashes % 2:
                items.append((True, item))
                continue
        kind = "[" if item in "[]" else "("
        if item in "([":
            opened[kind] += 1
        elif opened[kind]:
            opened[kind] -= 1
        else:
            items.append((True, item))
            continue
        items.append((False, item))
    items.append((True, text[position:]))
    return [(literal, item) for literal, item in items if item]


def _factors(items: list[tuple[bool, str]]) -> dict[int, float]:
    r"""The factor of each opening bracket, by its index in `items`; the closing one may set it, as `:1.3)` does."""
    factor: dict[int, float] = {}
    opened: dict[str, list[int]] = {"(": [], "[": []}
    for i, (literal, item) in enumerate(items):
        if literal:
            continue
        if item in "([":
            opened[item].append(i)
            factor[i] = UP if item == "(" else DOWN
        elif item == "]":
            opened["["].pop()
        else:
            start = opened["("].pop()
            if item != ")":
                factor[start] = float(item[1:-1])
    return factor
