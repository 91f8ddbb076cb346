r"""As people type: any case, with or without punctuation and accents, and now and then with a mistake."""

from __future__ import annotations

import re
import unicodedata
from zlib import crc32

import numpy as np

MISTAKEN = 0.10  # the share of captions with typing mistakes
_SHORTEST = 4  # letters of a word in which a mistake is made; mistakes in shorter ones would be other words
_ROWS = {
    "en": ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    "fr": ("azertyuiop", "qsdfghjklm", "wxcvbn"),
}


def _neighbours(rows: tuple[str, ...]) -> dict[str, str]:
    r"""For each letter the letters whose keys touch its key; each row is shifted by about half a key."""
    at = {letter: (x + 0.5 * y, y) for y, row in enumerate(rows) for x, letter in enumerate(row)}
    return {
        letter: "".join(
            o for o, (ox, oy) in at.items() if o != letter and abs(ox - x) <= 1 and abs(oy - y) <= 1
        )
        for letter, (x, y) in at.items()
    }


NEIGHBOURS = {language: _neighbours(rows) for language, rows in _ROWS.items()}


def as_typed(text: str, language: str, rng: np.random.Generator, mistakes: bool = True) -> str:
    r"""The caption as somebody types it; `mistakes` allows misspellings in a share of `MISTAKEN`."""
    if rng.random() < 0.25:
        text = text.replace(",", "")
    if language == "fr" and rng.random() < 0.25:
        text = without_accents(text)
    if mistakes and rng.random() < MISTAKEN:
        text = with_mistakes(text, language, rng)
    way = rng.random()
    if way < 0.25:
        text = text[0].upper() + text[1:]
    elif way < 0.29:
        text = text.upper()
    elif way < 0.33:
        text = text.title().replace("'S", "'s")
    return text + (".", "!", "")[int(np.searchsorted((0.12, 0.15), rng.random(), side="right"))]


def with_mistakes(text: str, language: str, rng: np.random.Generator, withheld: bool = False) -> str:
    r"""The text with one word misspelled, or two in a longer one.

    Only misspellings that training may see are made, or with `withheld` only the others (see `is_withheld_mistake`).
    """
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if len(re.sub(r"\W", "", word)) >= _SHORTEST]
    rng.shuffle(places)
    remaining = 2 if len(words) > 6 and rng.random() < 0.3 else 1
    for i in places:
        slips = (misspelled(words[i], language, rng) for _ in range(50))
        wrong = next((slip for slip in slips if is_withheld_mistake(slip) == withheld), None)
        if wrong and remaining:  # of a short word, all misspellings may be withheld, or none
            words[i], remaining = wrong, remaining - 1
    return " ".join(words)


def misspelled(word: str, language: str, rng: np.random.Generator) -> str:
    r"""The word with one slip: a neighbouring key, or a letter dropped, doubled or swapped with the next."""
    letters = [i for i, letter in enumerate(word) if letter.isalpha()]
    while True:
        i, way = letters[rng.integers(len(letters))], rng.integers(4)
        if way == 0:
            near = NEIGHBOURS[language].get(without_accents(word[i].lower()), "")
            wrong = word[:i] + near[rng.integers(len(near))] + word[i + 1 :] if near else word
        elif way == 1:
            wrong = word[:i] + word[i + 1 :]
        elif way == 2:
            wrong = word[: i + 1] + word[i:]
        else:
            wrong = word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :]
        if wrong != word:
            return wrong


def is_withheld_mistake(word: str) -> bool:
    r"""Whether training never sees this misspelling: a fifth of all, chosen by a checksum of the word."""
    return crc32(word.casefold().encode()) % 5 == 0


def without_accents(text: str) -> str:
    r"""The letters without their accents: "forêt" becomes "foret"."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
