r"""Which words of a prompt a model has not learned.

When a tokenizer is trained here (`ldm.train.tokenizer`), merges are learned until every word that occurs at least twice
in the captions is a single token. So a word that needs several tokens was in at most one caption, too few to learn what
it means. (The reverse does not hold: a single letter is always one token.) CLIP's vocabulary says nothing about this:
it is too small for its training texts, so even words that the network knows well need several tokens.
"""

from ldm.text.merges import CLIP_MERGE_COUNT
from ldm.text.tokenizer import Tokenizer


def unknown_words(tokenizer: Tokenizer, text: str) -> list[str]:
    r"""The words that were in at most one caption, each listed once: "a (unicorn:1.3) dog" -> ["unicorn"].

    Only words with letters count: brackets and numbers may be weights. Words beyond the context length are ignored. For
    a vocabulary as large as CLIP's, the list is empty.
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
        is_new = count > 1 and word not in found and word not in tokenizer.learned.ids
        if is_new and any(character.isalpha() for character in word):
            found.append(word)
    return found
