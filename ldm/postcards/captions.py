r"""Captions: describe a scene in English or French, in one of many wordings.

A caption may leave attributes out, as people do. It rarely omits something visible, so what a caption does not
mention is usually absent from the image. "none" and "nothing" are never put into words.
"""

from __future__ import annotations

import re
from dataclasses import astuple

import numpy as np

from ldm.errors import LdmError
from ldm.postcards import english, french
from ldm.postcards.attributes import Landscape, Scene

LANGUAGES = {"en": english, "fr": french}

# The demo prompts. No training caption equals one of them, so the model cannot have memorised them.
DEMO_PROMPTS = (
    "A serene lake surrounded by snow-capped mountains at sunrise",
    "a serene forest with a waterfall at sunrise",
    "a dog with glasses",
    "un lac serein entouré de montagnes enneigées au lever du soleil",
    "forêt sereine avec cascade au lever du soleil",
    "un chien avec des lunettes",
)

# The synonym on the left is never used for a scene that has the attribute on the right. No training caption calls a
# cat with glasses a kitten, though cats with glasses and kittens with hats are common. Evaluation asks for these pairs.
WITHHELD = (
    ("pond", "night"),
    ("woodland", "sunset"),
    ("ocean", "mountains"),
    ("prairie", "house"),
    ("cottage", "lake"),
    ("sailboat", "hills"),
    ("dusk", "desert"),
    ("dawn", "meadow"),
    ("midday", "sea"),
    ("kitten", "glasses"),
    ("puppy", "hat"),
    ("bunny", "blue"),
    ("cub", "scarf"),
    ("scarlet", "rabbit"),
    ("étang", "sunset"),
    ("océan", "night"),
    ("pré", "mountains"),
    ("voilier", "sunset"),
    ("chaumière", "night"),
    ("crépuscule", "lake"),
    ("chiot", "glasses"),
    ("chaton", "scarf"),
    ("ourson", "hat"),
    ("mauve", "cat"),
)

# How often a partial caption names each attribute; it always names the place or the animal.
NAMED = {"relief": 0.97, "time": 0.97, "feature": 0.97, "fur": 0.60, "accessory": 0.97, "background": 0.60}


def caption(scene: Scene, rng: np.random.Generator, language: str | None = None, partial: bool = True) -> str:
    r"""Sample a caption of `scene`: at most 22 words, never one of `DEMO_PROMPTS`, never a `WITHHELD` wording.

    `language` is "en", "fr" or None (either, with equal probability). With `partial`, attributes are left out at
    random (see `NAMED`); without it, all are named. Raises LdmError for an unknown language.
    """
    while True:
        text = _draft(scene, rng, language, partial)
        if not is_withheld(text, scene) and normalised(text) not in _DEMO:
            return text


def withheld_caption(scene: Scene, rng: np.random.Generator, tries: int = 200) -> str | None:
    r"""A full caption of `scene` in a wording that training never used, or None if there is none."""
    drafts = (_draft(scene, rng, None, partial=False) for _ in range(tries))
    return next((text for text in drafts if is_withheld(text, scene)), None)


def is_withheld(text: str, scene: Scene) -> bool:
    r"""Whether the text uses a synonym that is withheld from this scene."""
    words, shown = set(re.findall(r"\w+", text.casefold())), astuple(scene)
    return any(word in words and value in shown for word, value in WITHHELD)


def normalised(text: str) -> str:
    r"""The text in lower case with single spaces, the form in which captions are compared."""
    return " ".join(text.casefold().split())


def _draft(scene: Scene, rng: np.random.Generator, language: str | None, partial: bool) -> str:
    if language is not None and language not in LANGUAGES:
        raise LdmError(f"language {language!r}: expected 'en', 'fr' or None")
    grammar = LANGUAGES[language or ("en", "fr")[rng.integers(2)]]
    if isinstance(scene, Landscape):
        parts = (_named(scene, name, partial, rng) for name in ("relief", "time", "feature"))
        return grammar.landscape(scene.place, *parts, rng)
    parts = (_named(scene, name, partial, rng) for name in ("fur", "accessory", "background"))
    return grammar.portrait(scene.animal, *parts, rng)


def _named(scene: Scene, attribute: str, partial: bool, rng: np.random.Generator) -> str | None:
    r"""The attribute's value if the caption names it, else None."""
    value = getattr(scene, attribute)
    left_out = partial and rng.random() >= NAMED[attribute]
    return None if left_out or value in ("none", "nothing") else value


_DEMO = frozenset(map(normalised, DEMO_PROMPTS))
