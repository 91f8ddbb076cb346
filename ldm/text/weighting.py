r"""Brackets in a prompt that say how much a word counts: `a (red:1.3) [dog]`.

    (word)       1.1 times as much
    [word]       1.1 times less
    (word:1.3)   1.3 times as much; any number, 0 and negative ones too
    ((word))     brackets multiply: 1.21
    \(word\)     brackets, taken literally

The syntax is that of A1111's web interface, for which thousands of prompts were written. Every string is valid: a
bracket that is never closed extends to the end, a closing bracket that was never opened is text, and so is a colon that
is not followed by a number and a closing bracket. Nothing here raises.

Left out of the same interface: `[from:to:0.5]`, which changes the prompt during sampling, `BREAK` and `AND`; they cause
a warning (`ldm.text.syntax`). One departure: a backslash that is not before a bracket is kept (there it is removed, and
`\\` stands for one).

How the weights are used: `ldm.text.prompt`. Source: A1111's `prompt_parser.parse_prompt_attention` and its
documentation.
"""

import re
from itertools import groupby

UP, DOWN = 1.1, 1 / 1.1

# Backslashes with the bracket after them; a weight with its closing bracket; a bracket. Everything else is text.
_MARK = re.compile(r"\\+[()\[\]]|:\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)\s*\)|[()\[\]]")


def weighted_parts(text: str) -> list[tuple[str, float]]:
    r"""The parts of a prompt, each with its weight: "a (red:1.3) dog" -> [("a ", 1.0), ("red", 1.3), (" dog", 1.0)].

    Neighbouring parts of equal weight are joined. A text without brackets is one part of weight 1.
    """
    tokens = _tokens(text)
    factor = _factors(tokens)
    parts: list[tuple[str, float]] = []
    # Round and square brackets may cross, "(a [b) c]", but each kind on its own is nested. So there are two stacks.
    products = {"(": [1.0], "[": [1.0]}
    for i, (literal, token) in enumerate(tokens):
        if i in factor:
            stack = products[token]
            stack.append(stack[-1] * factor[i])
        elif not literal:
            products["[" if token == "]" else "("].pop()
        else:
            parts.append((token, products["("][-1] * products["["][-1]))
    merged = [
        ("".join(part for part, _ in same), weight)
        for weight, same in groupby(parts, key=lambda part: part[1])
    ]
    return merged or [("", 1.0)]


def _tokens(text: str) -> list[tuple[bool, str]]:
    r"""The text as pairs (is it text?, token): pieces of text, opening brackets, and closing ones that match."""
    tokens: list[tuple[bool, str]] = []
    opened = {"(": 0, "[": 0}
    position = 0
    for mark in _MARK.finditer(text):
        tokens.append((True, text[position : mark.start()]))
        position, token = mark.end(), mark.group()
        if token[0] == "\\":  # two backslashes are one; an odd one makes the bracket text
            backslashes, token = len(token) - 1, token[-1]
            tokens.append((True, "\\" * (backslashes // 2)))
            if backslashes % 2:
                tokens.append((True, token))
                continue
        kind = "[" if token in "[]" else "("
        if token in "([":
            opened[kind] += 1
        elif opened[kind]:
            opened[kind] -= 1
        else:
            tokens.append((True, token))
            continue
        tokens.append((False, token))
    tokens.append((True, text[position:]))
    return [(literal, token) for literal, token in tokens if token]


def _factors(tokens: list[tuple[bool, str]]) -> dict[int, float]:
    r"""By what each opening bracket multiplies, by its index in `tokens`; the closing bracket may say it."""
    factor: dict[int, float] = {}
    opened: dict[str, list[int]] = {"(": [], "[": []}
    for i, (literal, token) in enumerate(tokens):
        if literal:
            continue
        if token in "([":
            opened[token].append(i)
            factor[i] = UP if token == "(" else DOWN
        elif token == "]":
            opened["["].pop()
        else:
            start = opened["("].pop()
            if token != ")":
                factor[start] = float(token[1:-1])
    return factor
