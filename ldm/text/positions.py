"""Which tokens of a prompt belong to which word, so that a token's state or attention can be named."""

from dataclasses import dataclass

from ldm.text.pretokenize import END_OF_WORD
from ldm.text.tokenizer import Tokenizer
from ldm.text.weighting import weighted_parts


@dataclass(frozen=True)
class Word:
    """A word of the prompt and the positions of its tokens."""

    text: str  # as the tokenizer cleaned it
    positions: tuple[int, ...]  # in the context, where 0 is the start token


def encoded_parts(prompt: str, weighting: bool) -> list[str]:
    """The text that is encoded; with `weighting`, without brackets and weights."""
    return [part for part, _ in weighted_parts(prompt)] if weighting else [prompt]


def prompt_words(tokenizer: Tokenizer, prompt: str, weighting: bool = True) -> list[Word]:
    """The words of the prompt with the positions of their tokens; words that are truncated away are left out."""
    parts = encoded_parts(prompt, weighting)
    tokens, words, position = iter([token for part in parts for token in tokenizer.tokens(part)]), [], 1
    for text in [word for part in parts for word in tokenizer.words(part)]:
        first = position
        for token in tokens:
            position += 1
            if token.endswith(END_OF_WORD) or token == text:  # a special token has no end-of-word suffix
                break
        # The last position is for the end token.
        kept = range(first, min(position, tokenizer.context_length - 1))
        if kept:
            words.append(Word(text, tuple(kept)))
    return words
