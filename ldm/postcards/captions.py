r"""Captions: describe a scene in English or French, in one of many wordings, as people type them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from ldm.errors import LdmError
from ldm.postcards import english, french
from ldm.postcards.facts import facts, labels
from ldm.postcards.plan import plan
from ldm.postcards.prompts import handwritten
from ldm.postcards.sampling import sample_scene
from ldm.postcards.scene import Scene
from ldm.postcards.sentences import sentence
from ldm.postcards.typed import as_typed, with_mistakes, without_accents

LANGUAGES = {"en": english, "fr": french}
MAX_LENGTH = 36  # words and punctuation marks of a caption, as a tokenizer counts them

# The demo prompts. No training caption equals one of them, so the model cannot have memorised them.
DEMO_PROMPTS = (
    "A serene lake surrounded by snow-capped mountains at sunrise",
    "a serene forest with a waterfall at sunrise",
    "a dog with glasses",
    "un lac serein entouré de montagnes enneigées au lever du soleil",
    "forêt sereine avec cascade au lever du soleil",
    "un chien avec des lunettes",
)

# The word on the left is never used for a scene of which the fact on the right is true. No training caption calls a cat
# with glasses a kitten, though cats with glasses and kittens with hats are common. Evaluation asks for these pairs.
WITHHELD = (
    ("pond", "night"),
    ("woodland", "sunset"),
    ("ocean", "mountains"),
    ("prairie", "house"),
    ("cottage", "lake"),
    ("dusk", "desert"),
    ("dawn", "meadow"),
    ("midday", "sea"),
    ("kitten", "cat glasses"),
    ("puppy", "dog hat"),
    ("bunny", "blue wall"),
    ("cub", "bear scarf"),
    ("scarlet", "rabbit"),
    ("ship", "sunset"),
    ("cabin", "rain"),
    ("mist", "lake"),
    ("étang", "sunset"),
    ("océan", "night"),
    ("pré", "mountains"),
    ("chaumière", "night"),
    ("crépuscule", "lake"),
    ("chiot", "dog glasses"),
    ("chaton", "cat scarf"),
    ("ourson", "bear hat"),
    ("mauve", "cat"),
    ("navire", "rainbow"),
    ("foulard", "rabbit"),
)


@dataclass(frozen=True)
class Caption:
    r"""What somebody typed, the language, and the facts that the drawing must show (see `facts.py`)."""

    text: str
    language: str
    facts: frozenset[str]


def caption(
    scene: Scene,
    rng: np.random.Generator,
    language: str | None = None,
    partial: bool = True,
    mistakes: bool = True,
) -> str:
    r"""Sample a caption of `scene`: never one of the demo or handwritten prompts, never in a `WITHHELD` wording.

    `language` is "en", "fr" or None (either, with equal probability). With `partial`, every other caption leaves things
    out (see `NAMED` in `plan.py`); without, none does. `mistakes` allows typing mistakes in a tenth of them.
    Raises LdmError for an unknown language.
    """
    return caption_with_facts(scene, rng, language, partial, mistakes).text


def caption_with_facts(
    scene: Scene,
    rng: np.random.Generator,
    language: str | None = None,
    partial: bool = True,
    mistakes: bool = True,
) -> Caption:
    r"""As `caption`, with the language and what the caption claims."""
    while True:
        drafted = _draft(scene, rng, language, partial and rng.random() < 0.5)
        if is_withheld(drafted.text, scene):
            continue
        text = as_typed(drafted.text, drafted.language, rng, mistakes)
        if normalised(text) not in _never():
            return Caption(text, drafted.language, drafted.facts)


def withheld_caption(scene: Scene, rng: np.random.Generator, tries: int = 200) -> Caption | None:
    r"""A full caption of `scene` in a wording that training never used, or None if there is none."""
    drafts = (_draft(scene, rng, None, partial=False) for _ in range(tries))
    return next((drafted for drafted in drafts if is_withheld(drafted.text, scene)), None)


def mistyped_caption(scene: Scene, rng: np.random.Generator, language: str | None = None) -> Caption:
    r"""A full caption of `scene` with typing mistakes that training never saw."""
    drafted = _draft(scene, rng, language, partial=False)
    wrong = with_mistakes(drafted.text, drafted.language, rng, withheld=True)
    return Caption(wrong, drafted.language, drafted.facts)


def is_withheld(text: str, scene: Scene) -> bool:
    r"""Whether the text uses a word that is withheld from this scene, in any spelling (see `_forms`)."""
    words = set(re.findall(r"\w+", without_accents(text.casefold())))
    found = [fact for word, fact in WITHHELD if not words.isdisjoint(_forms(word))]
    return bool(found) and not facts(labels(scene)).isdisjoint(found)


@cache
def _forms(word: str) -> frozenset[str]:
    r"""The word as it may be typed: in the singular or plural, without accents."""
    plain = without_accents(word)
    return frozenset({plain, plain + "s", plain + "es"})


def normalised(text: str) -> str:
    r"""The text in lower case without punctuation and with single spaces, the form in which captions are compared."""
    return " ".join(re.findall(r"[\w'-]+", text.casefold()))


def names(kind: str, language: str) -> set[str]:
    r"""The words of a language for what a `Box` marks: a kind of thing, animal or garment, a place, "sun", ..."""
    return LANGUAGES[language].names(kind)


def vocabulary(language: str, count: int = 20_000) -> list[str]:
    r"""The words that occur in `count` random full captions of a language, in alphabetical order."""
    rng, found = np.random.default_rng(0), set()
    for _ in range(count):
        found.update(normalised(_draft(sample_scene(rng), rng, language, partial=False).text).split())
    return sorted(found)


def _draft(scene: Scene, rng: np.random.Generator, language: str | None, partial: bool) -> Caption:
    r"""A caption before it is typed, of at most `MAX_LENGTH` words. Raises LdmError for an unknown language."""
    if language is not None and language not in LANGUAGES:
        raise LdmError(f"language {language!r}: expected 'en', 'fr' or None")
    language = language or ("en", "fr")[rng.integers(2)]
    while True:
        planned = plan(scene, rng, partial)
        text = sentence(planned, LANGUAGES[language], rng)
        if len(re.findall(r"\w+|[^\w\s]", text)) <= MAX_LENGTH:
            return Caption(text, language, planned.facts)


@cache
def _never() -> frozenset[str]:
    r"""The prompts that no training caption equals."""
    return frozenset(map(normalised, (*DEMO_PROMPTS, *(prompt.text for prompt in handwritten()))))
