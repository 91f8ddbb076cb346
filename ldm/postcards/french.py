r"""French captions: the words for each attribute, their gender, and the ways to arrange them.

A noun stores its gender and an adjective its two singular forms, so agreement is looked up, never guessed.
Elision ("l'océan", "d'un") and contraction ("du lac", "au bord de la forêt") are each handled in one place.
See `english.py` for the arguments of the grammar functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ldm.postcards.phrases import join, pick, shuffled


@dataclass(frozen=True)
class Noun:
    r"""A singular noun, perhaps with a complement ("champ de fleurs"). Its first word decides the agreement."""

    word: str
    feminine: bool = False

    def a(self, adjective: str = "") -> str:
        r"""With the indefinite article: "un lac", "une forêt"; the adjective, if any, follows the noun."""
        return join("une" if self.feminine else "un", self.word, adjective)

    def the(self, adjective: str = "") -> str:
        r"""With the definite article, elided before a vowel: "le lac", "la forêt", "l'océan"."""
        if self.word[0] in _VOWELS:
            return join(f"l'{self.word}", adjective)
        return join("la" if self.feminine else "le", self.word, adjective)


_VOWELS = "aàâeéèêiîoôuûh"

# (masculine, feminine)
MOODS = (
    ("serein", "sereine"),
    ("calme", "calme"),
    ("paisible", "paisible"),
    ("tranquille", "tranquille"),
    ("silencieux", "silencieuse"),
    ("magnifique", "magnifique"),
    ("charmant", "charmante"),
)
PLACES = {
    "lake": (Noun("lac"), Noun("lac"), Noun("lac"), Noun("étang")),
    "forest": (Noun("forêt", True), Noun("forêt", True), Noun("bois"), Noun("forêt de sapins", True)),
    "sea": (Noun("mer", True), Noun("mer", True), Noun("océan"), Noun("plage", True)),
    "desert": (Noun("désert"), Noun("désert"), Noun("désert de sable")),
    "meadow": (
        Noun("prairie", True),
        Noun("prairie", True),
        Noun("pré"),
        Noun("champ de fleurs"),
        Noun("prairie fleurie", True),
    ),
}
RELIEFS = {
    "mountains": (
        "montagnes enneigées",
        "montagnes enneigées",
        "sommets enneigés",
        "montagnes",
        "pics enneigés",
        "montagnes couvertes de neige",
    ),
    "hills": ("collines vertes", "collines vertes", "collines", "collines verdoyantes"),
}
# {e} is the feminine ending, which agrees with the place.
AROUND = (
    "entouré{e} de",
    "entouré{e} de",
    "bordé{e} de",
    "avec des",
    "devant des",
    "au pied de",
    "encadré{e} de",
)
TIMES = {
    "sunrise": ("au lever du soleil", "au lever du soleil", "à l'aube", "au petit matin", "au point du jour"),
    "day": ("en plein jour", "à midi", "de jour", "en journée", "sous un ciel bleu", "par une belle journée"),
    "sunset": (
        "au coucher du soleil",
        "au coucher du soleil",
        "au crépuscule",
        "le soir",
        "au soleil couchant",
    ),
    "night": ("la nuit", "la nuit", "de nuit", "sous les étoiles", "au clair de lune", "à minuit"),
}
MOMENTS = {
    "sunrise": ("lever de soleil", "aube", "lever du jour"),
    "day": ("plein soleil", "ciel bleu"),
    "sunset": ("coucher de soleil", "crépuscule", "soir"),
    "night": ("nuit", "nuit étoilée", "clair de lune"),
}
FEATURES = {
    "waterfall": (
        Noun("cascade", True),
        Noun("cascade", True),
        Noun("chute d'eau", True),
        Noun("grande cascade", True),
    ),
    "boat": (Noun("bateau"), Noun("bateau"), Noun("voilier"), Noun("petit bateau"), Noun("barque", True)),
    "house": (
        Noun("maison", True),
        Noun("maison", True),
        Noun("petite maison", True),
        Noun("chaumière", True),
        Noun("chalet"),
    ),
    "balloon": (Noun("montgolfière", True), Noun("montgolfière", True), Noun("ballon"), Noun("grand ballon")),
}
WHERE = {"waterfall": ("dans",), "boat": ("sur",), "house": ("dans",), "balloon": ("au-dessus de",)}
WHERE_BY_WATER = {**WHERE, "waterfall": ("au bord de",), "house": ("au bord de", "près de")}

CUTE_BEFORE = ("petit", "joli", "gentil")
CUTE_AFTER = ("mignon", "souriant", "heureux", "content")
ANIMALS = {  # all masculine
    "dog": ("chien", "chien", "chien", "chiot"),
    "cat": ("chat", "chat", "chat", "chaton"),
    "rabbit": ("lapin", "lapin", "lapereau"),
    "bear": ("ours", "ours", "ourson"),
}
FURS = {
    "brown": ("brun", "brun", "marron"),
    "black": ("noir",),
    "white": ("blanc",),
    "grey": ("gris", "gris", "argenté"),
    "golden": ("doré", "doré", "roux"),
    "cream": ("crème", "crème", "beige"),
}
ACCESSORIES = {
    "glasses": (
        "avec des lunettes",
        "avec des lunettes",
        "à lunettes",
        "portant des lunettes",
        "avec lunettes",
        "avec des lunettes rondes",
    ),
    "hat": (
        "avec un chapeau",
        "avec un chapeau",
        "portant un chapeau",
        "coiffé d'un chapeau",
        "avec un grand chapeau",
    ),
    "scarf": (
        "avec une écharpe",
        "avec une écharpe",
        "portant une écharpe",
        "avec une écharpe rayée",
        "en écharpe",
    ),
}
BACKGROUNDS = {
    "red": (("rouge", "rouge"), ("écarlate", "écarlate")),
    "orange": (("orange", "orange"),),
    "yellow": (("jaune", "jaune"),),
    "green": (("vert", "verte"),),
    "teal": (("turquoise", "turquoise"),),
    "blue": (("bleu", "bleue"), ("bleu", "bleue"), ("azur", "azur")),
    "purple": (("violet", "violette"), ("violet", "violette"), ("mauve", "mauve")),
    "pink": (("rose", "rose"),),
}
BEHIND = (
    ("sur", Noun("fond"), False),
    ("sur", Noun("fond"), True),
    ("devant", Noun("mur"), True),
    ("sur", Noun("arrière-plan"), True),
    ("devant", Noun("toile", True), True),
)
OPENERS = (Noun("carte postale", True), Noun("image", True), Noun("dessin"), Noun("illustration", True))


def landscape(
    place: str, relief: str | None, time: str | None, feature: str | None, rng: np.random.Generator
) -> str:
    r"""One caption; `relief`, `time` or `feature` is omitted if None."""
    noun = pick(PLACES[place], rng)
    mood = pick(MOODS, rng)[noun.feminine] if rng.random() < 0.45 else ""
    around = [_around(noun, pick(RELIEFS[relief], rng), rng)] if relief else []
    when = [pick(TIMES[time], rng)] if time else []
    way = rng.random()
    if feature and way < 0.22:  # the feature first: "un bateau sur un lac calme au crépuscule"
        prepositions = WHERE_BY_WATER if place in ("lake", "sea") else WHERE
        where, whole = (
            pick(prepositions[feature], rng),
            noun.a(mood) if rng.random() < 0.6 else noun.the(mood),
        )
        place_words = de(whole, where) if where.endswith(" de") else f"{where} {whole}"
        # "entouré" agrees with the place, not the feature, so it directly follows the place.
        return join(_with_article(pick(FEATURES[feature], rng), "", rng), place_words, *around, *when)
    beside = [_beside(pick(FEATURES[feature], rng), rng)] if feature else []
    if time and way > 0.93:  # the moment first: "lever de soleil sur une forêt"
        return join(pick(MOMENTS[time], rng), "sur", noun.a(mood), *shuffled(around + beside, rng))
    if time and way > 0.83:  # "à l'aube, une forêt"
        return join(when[0] + ",", _with_article(noun, mood, rng), *shuffled(around + beside, rng))
    details = around + beside + when if rng.random() < 0.5 else shuffled(around + beside + when, rng)
    if rng.random() < 0.1:
        return join(pick(OPENERS, rng).a(), de(noun.a(mood)), *details)
    return join(_with_article(noun, mood, rng), *details)


def portrait(
    animal: str, fur: str | None, accessory: str | None, background: str | None, rng: np.random.Generator
) -> str:
    r"""One caption; `fur`, `accessory` or `background` is omitted if None."""
    word = pick(ANIMALS[animal], rng)
    details = []
    way = rng.random()
    if way < 0.12:
        word = f"{pick(CUTE_BEFORE, rng)} {word}"
    coat = way > 0.88
    if fur and not coat:
        word = f"{word} {pick(FURS[fur], rng)}"
    if 0.12 <= way < 0.2:
        word = f"{word} {pick(CUTE_AFTER, rng)}"
    if fur and coat:
        word = f"{word} au pelage {pick(FURS[fur], rng)}"
    noun = Noun(word)
    if accessory:
        details.append(pick(ACCESSORIES[accessory], rng))
    if background:
        where, surface, article = pick(BEHIND, rng)
        colour = pick(BACKGROUNDS[background], rng)[surface.feminine]
        behind = f"{where} {surface.a(colour) if article else f'{surface.word} {colour}'}"
        if rng.random() < 0.1:  # "sur fond bleu, un chat"
            return join(behind + ",", _with_article(noun, "", rng), *details)
        details.append(behind)
    if rng.random() < 0.25:
        details = shuffled(details, rng)
    if rng.random() < 0.1:
        return join(pick((*OPENERS, Noun("portrait")), rng).a(), de(noun.a()), *details)
    return join(_with_article(noun, "", rng), *details)


def de(words: str, before: str = "de") -> str:
    r"""Contract or elide "de" with what follows: "du lac", "d'un lac", "de la forêt", "de l'océan".

    `before` is any phrase that ends in "de": de("le lac", "au bord de") is "au bord du lac".
    """
    stem = before.removesuffix("de")
    if words.startswith("le "):
        return f"{stem}du {words.removeprefix('le ')}"
    if words[0] in _VOWELS:
        return f"{stem}d'{words}"
    return f"{stem}de {words}"


def _around(noun: Noun, relief: str, rng: np.random.Generator) -> str:
    return f"{pick(AROUND, rng).format(e='e' if noun.feminine else '')} {relief}"


def _beside(feature: Noun, rng: np.random.Generator) -> str:
    way = rng.random()
    return f"avec {feature.word}" if way < 0.25 else f"avec {feature.a()}"


def _with_article(noun: Noun, adjective: str, rng: np.random.Generator) -> str:
    way = rng.random()
    if way < 0.65:
        return noun.a(adjective)
    return noun.the(adjective) if way < 0.75 else join(noun.word, adjective)
