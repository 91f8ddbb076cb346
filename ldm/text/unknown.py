r"""Which words of a prompt a model has never seen in training.

A tokenizer that was trained here learns merges until every word of the captions is one token (`ldm.train.tokenizer`),
so a word with several tokens was in no caption. (The reverse does not hold: a single letter is always one token.) With
CLIP's vocabulary nothing can be said: it is too small for its training texts, so many words that the network knows well
have several tokens.
"""

from ldm.text.merges import CLIP_MERGE_COUNT
from ldm.text.tokenizer import Tokenizer


def unknown_words(tokenizer: Tokenizer, text: str) -> list[str]:
    r"""The words of a text that were in no caption, each once: "a (unicorn:1.3) dog" -> ["unicorn"].

    Only words with letters count: brackets and numbers may be weights. Empty for CLIP's vocabulary. Looks only at the
    part of the text that the model reads.
    """
    if len(tokenizer.merges) >= CLIP_MERGE_COUNT:
        return []
    found: list[str] = []
    available = tokenizer.context_length - 2  # tokens, between bos and eos
    for word in tokenizer.words(text):
        if available <= 0:
            break
        count = len(tokenizer.encode(word))
        available -= count
        if count > 1 and word not in found and any(character.isalpha() for character in word):
            found.append(word)
    return found
