r"""Which words of a prompt a model has never read in training.

A tokenizer that was learned here goes on until every word of the captions is one piece (`ldm.train.tokenizer`), so a
word that falls into several pieces was in no caption. The reverse does not hold: a single letter is always one piece.
CLIP's own vocabulary says nothing of the kind: it is too small for the texts it was learned from, and leaves rare
words in several pieces that the network has seen often enough.
"""

from ldm.text.merges import CLIP_MERGE_COUNT
from ldm.text.tokenizer import Tokenizer


def unknown_words(tokenizer: Tokenizer, text: str) -> list[str]:
    r"""The words of a text that were in no caption, each once: "a (unicorn:1.3) dog" -> ["unicorn"].

    A run of signs is no word: brackets and numbers may be weights. Empty for CLIP's vocabulary. Looks no further than
    the model reads: `context_length` pieces.
    """
    if len(tokenizer.merges) >= CLIP_MERGE_COUNT:
        return []
    found, room = dict[str, None](), tokenizer.context_length - 2  # a dict keeps the order, a set would not
    for word in tokenizer.words(text):
        if room <= 0:
            break
        pieces = len(tokenizer.encode(word))
        room -= pieces
        if pieces > 1 and any(character.isalpha() for character in word):
            found[word] = None
    return list(found)
