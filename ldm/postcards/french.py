r"""French phrases: as in `english.py`, with genders and plurals.

A noun stores its plural and its gender and an adjective its two singular forms, so agreement is looked up, never
guessed. Elision ("l'océan", "d'un") and contraction ("du lac") are handled in `the` and `of`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ldm.postcards.plan import Group
from ldm.postcards.scene import ANIMALS
from ldm.postcards.words import join, pick

AND, WITH, NO = "et", "avec", "pas de"
TOGETHER = ("et", "à côté de", "près de", "avec")  # two things or animals
_VOWELS = "aàâeéèêiîoôuû"
_INVARIABLE = ("orange", "marron", "turquoise", "azur", "debout")


@dataclass(frozen=True)
class Noun:
    r"""A noun, its plural and its gender; a complement ("champ de fleurs") belongs to it."""

    word: str
    many: str
    feminine: bool = False

    def a(self) -> str:
        r"""The indefinite article."""
        return "une" if self.feminine else "un"

    def the(self, words: str) -> str:
        r"""`words`, which begin with this noun or its adjective, with the definite article: "l'océan calme"."""
        if words[0] in _VOWELS:
            return f"l'{words}"
        return join("la" if self.feminine else "le", words)


def _m(word: str, many: str = "") -> Noun:
    return Noun(word, many or word + "s")


def _f(word: str, many: str = "") -> Noun:
    return Noun(word, many or word + "s", feminine=True)


# (masculine, feminine)
Adjective = tuple[str, str]
MOODS: tuple[Adjective, ...] = (
    ("serein", "sereine"), ("calme", "calme"), ("paisible", "paisible"), ("tranquille", "tranquille"),
    ("silencieux", "silencieuse"), ("magnifique", "magnifique"), ("charmant", "charmante"), ("sauvage", "sauvage"),
)  # fmt: skip
PLACES = {
    "lake": (_m("lac"), _m("étang"), _m("lac de montagne")),
    "forest": (_f("forêt"), _m("bois", "bois"), _f("forêt de sapins")),
    "sea": (_f("mer"), _m("océan"), _f("plage")),
    "desert": (_m("désert"), _m("désert de sable")),
    "meadow": (_f("prairie"), _m("pré"), _m("champ"), _m("pâturage")),
}
RELIEFS = {
    "mountains": ("montagnes enneigées", "sommets enneigés", "montagnes", "pics enneigés",
                  "montagnes couvertes de neige", "hautes montagnes"),
    "hills": ("collines vertes", "collines", "collines verdoyantes"),
}  # fmt: skip
# {e} is the feminine ending, which agrees with the place.
AROUND = ("entouré{e} de {}", "bordé{e} de {}", "avec des {}", "devant des {}", "au pied de {}", "encadré{e} de {}",
          "avec des {} derrière", "avec des {} au loin")  # fmt: skip
AROUND_ANYTHING = tuple(words for words in AROUND if "{e}" not in words)
TIMES = {
    "sunrise": ("au lever du soleil", "à l'aube", "au petit matin", "au point du jour", "au lever du jour", "le matin"),
    "day": ("en plein jour", "à midi", "de jour", "en journée", "dans l'après-midi", "pendant la journée"),
    "sunset": ("au coucher du soleil", "au crépuscule", "le soir", "au soleil couchant", "à la tombée du jour"),
    "night": ("la nuit", "de nuit", "sous les étoiles", "au clair de lune", "à minuit", "sous la lune"),
}  # fmt: skip
SUNNY = ("par une belle journée", "sous un ciel bleu", "au soleil", "un jour de beau temps")  # a clear day
MOMENTS = {
    "sunrise": ("lever de soleil", "lever du soleil", "aube", "lever du jour"),
    "day": ("plein jour", "midi", "jour"),
    "sunset": ("coucher de soleil", "coucher du soleil", "crépuscule", "soir"),
    "night": ("nuit", "nuit étoilée", "clair de lune"),
}
MOMENT_OVER = "{} sur"
WEATHERS = {
    "rain": ("sous la pluie", "un jour de pluie", "quand il pleut", "par temps de pluie"),
    "snow": ("sous la neige", "en hiver", "dans la neige", "quand il neige"),
    "fog": ("dans la brume", "dans le brouillard", "un jour de brouillard"),
    "rainbow": ("avec un arc-en-ciel", "sous un arc-en-ciel"),
}
WEATHER_TAGS = {
    "rain": ("pluie",),
    "snow": ("neige", "hiver"),
    "fog": ("brume", "brouillard"),
    "rainbow": ("arc-en-ciel",),
}
WET: dict[str, tuple[Adjective, ...]] = {
    "rain": (("pluvieux", "pluvieuse"),),
    "snow": (("enneigé", "enneigée"),),
    "fog": (("brumeux", "brumeuse"),),
}
NOUNS = {
    "waterfall": (_f("cascade"), _f("chute d'eau", "chutes d'eau")),
    "boat": (_m("bateau", "bateaux"), _m("navire")),
    "house": (_f("maison"), _f("maisonnette"), _f("chaumière")),
    "balloon": (_f("montgolfière"), _m("ballon")),
    "flower": (_f("fleur"),),
    "dog": (_m("chien"), _m("chiot"), _m("toutou")),
    "cat": (_m("chat"), _m("chaton"), _m("minou")),
    "rabbit": (_m("lapin"), _m("lapereau", "lapereaux")),
    "bear": (_m("ours", "ours"), _m("ourson")),
    "glasses": (_f("lunettes", "lunettes"),),
    "hat": (_m("chapeau", "chapeaux"),),
    "scarf": (_f("écharpe"), _m("foulard")),
}
COLOURS: dict[str, tuple[Adjective, ...]] = {
    "red": (("rouge", "rouge"), ("écarlate", "écarlate")),
    "orange": (("orange", "orange"),),
    "yellow": (("jaune", "jaune"),),
    "green": (("vert", "verte"),),
    "teal": (("turquoise", "turquoise"),),
    "blue": (("bleu", "bleue"), ("azur", "azur")),
    "purple": (("violet", "violette"), ("mauve", "mauve")),
    "pink": (("rose", "rose"),),
    "white": (("blanc", "blanche"),),
    "brown": (("brun", "brune"), ("marron", "marron")),
    "black": (("noir", "noire"),),
    "grey": (("gris", "grise"),),
    "golden": (("doré", "dorée"), ("roux", "rousse")),
}
COUNTS = {2: ("deux", "2"), 3: ("trois", "3")}
CUTE: tuple[Adjective, ...] = (("petit", "petite"), ("joli", "jolie"), ("beau", "belle"))
CUTE_AFTER: tuple[Adjective, ...] = (
    ("mignon", "mignonne"),
    ("souriant", "souriante"),
    ("content", "contente"),
)
POSES: dict[str, Adjective] = {"sitting": ("assis", "assise"), "standing": ("debout", "debout")}
WEARING = (("avec", "avec"), ("portant", "portant"), ("qui porte", "qui portent"), ("qui a", "qui ont"))
SIDES = {
    "left": ("à gauche", "sur la gauche", "du côté gauche"),
    "middle": ("au milieu", "au centre"),
    "right": ("à droite", "sur la droite", "du côté droit"),
}
LEFT_OF = ("à gauche de", "sur la gauche de")
RIGHT_OF = ("à droite de", "sur la droite de")
BODIES = {"sun": "le soleil", "moon": "la lune"}
WHERE = {"balloon": ("au-dessus de", "sur"), "boat": ("sur",)}
ASHORE, INSIDE = ("au bord de", "près de", "à côté de"), ("dans",)
BEHIND = (
    ("sur fond", False), ("sur un fond", False), ("devant un mur", False), ("sur un arrière-plan", False),
    ("devant une toile", True),
)  # fmt: skip  # with the gender that the colour agrees with
OPENERS = ("une image {de}", "un dessin {de}", "une carte postale {de}", "une illustration {de}", "image {de}",
           "dessine {}", "dessine-moi {}", "peins {}", "montre-moi {}", "je voudrais {}", "je veux {}",
           "{} s'il te plaît", "{} svp",
           "il y a {}", "une belle image {de}")  # fmt: skip
STYLES = {
    "watercolour": ("une aquarelle {de}", "{} à l'aquarelle", "{}, aquarelle", "{} en aquarelle"),
    "print": ("une gravure {de}", "une estampe {de}", "{} en gravure", "{}, gravure", "une gravure sur bois {de}"),
}  # fmt: skip
STYLE_TAGS = {"watercolour": ("aquarelle",), "print": ("gravure", "estampe")}


def names(kind: str) -> set[str]:
    r"""The words for a place, a relief, a thing, an animal, a garment, "rainbow", "sun" or "moon"."""
    nouns = (*PLACES.get(kind, ()), *NOUNS.get(kind, ()))
    found = {form for noun in nouns for form in (noun.word, noun.many)} | set(RELIEFS.get(kind, ()))
    return found or {{"rainbow": "arc-en-ciel", "sun": "soleil", "moon": "lune"}[kind]}


def group(what: Group, rng: np.random.Generator) -> str:
    r"""A noun phrase: "deux bateaux rouges", "un petit chat noir avec des lunettes et un chapeau rouge à gauche"."""
    noun, beast, many = pick(NOUNS[what.kind], rng), what.kind in ANIMALS, what.count > 1
    way = rng.random()
    before = _agree(pick(CUTE, rng), noun, many) if way < 0.10 else ""
    after = _agree(pick(CUTE_AFTER, rng), noun, many) if 0.10 < way < 0.16 and beast else ""
    colour = pick(COLOURS[what.colour], rng) if what.colour else None
    coat = beast and colour is not None and way > 0.94
    painted = "" if colour is None or coat else _agree(colour, noun, many)
    fur = f"au pelage {colour[0]}" if colour is not None and coat else ""
    pose = _agree(POSES[what.pose], noun, many) if what.pose else ""
    worn = " et ".join(garment(g.kind, g.colour, rng) for g in what.wears)
    wearing = join(pick(WEARING, rng)[many], worn) if worn else ""
    lacks = join("mais" if worn else "", "sans", pick(NOUNS[what.lacks], rng).word) if what.lacks else ""
    side = pick(SIDES[what.side], rng) if what.side else ""
    words = join(before, noun.many if many else noun.word, after, painted)
    if many:
        text = join(pick(COUNTS[what.count], rng), words)
    else:
        way = rng.random()
        text = join(noun.a(), words) if way < 0.82 else noun.the(words) if way < 0.88 else words
    return join(text, pose, fur, wearing, lacks, side)


def garment(kind: str, colour: str, rng: np.random.Generator) -> str:
    r"""What is worn: "des lunettes", "un chapeau rouge"."""
    noun = pick(NOUNS[kind], rng)
    if kind == "glasses":
        return pick(("des lunettes", "lunettes"), rng)
    return join(noun.a(), noun.word, _agree(pick(COLOURS[colour], rng), noun, False) if colour else "")


def place(
    name: str, weather: str, rng: np.random.Generator, bare: bool = False
) -> tuple[str, str, bool | None]:
    r"""A place with its article (or `bare`), the weather that is left to say, and whether it is feminine."""
    noun, wet = pick(PLACES[name], rng), ""
    if weather in WET and rng.random() < 0.3:
        wet, weather = _agree(pick(WET[weather], rng), noun, False), ""
    words = join(noun.word, _agree(pick(MOODS, rng), noun, False) if rng.random() < 0.35 else "", wet)
    way = rng.random()
    text = words if bare or way < 0.12 else noun.the(words) if way < 0.28 else join(noun.a(), words)
    return text, weather, noun.feminine


def around(relief: str, feminine: bool | None, rng: np.random.Generator) -> str:
    r"""How the relief lies around; the participle agrees with the place, and without a place there is none."""
    words = AROUND_ANYTHING if feminine is None else AROUND
    return pick(words, rng).format(pick(RELIEFS[relief], rng), e="e" if feminine else "")


def wall(colour: str, rng: np.random.Generator) -> str:
    r"""The wall or background behind an animal: "sur fond rouge", "devant un mur vert"."""
    before, feminine = pick(BEHIND, rng)
    return join(before, pick(COLOURS[colour], rng)[feminine])


def without(kind: str, rng: np.random.Generator) -> str:
    r"""That there is nothing of a kind: "sans bateau", "sans bateaux"."""
    return f"sans {pick(bare(kind), rng)}"


def bare(kind: str) -> tuple[str, str]:
    r"""The usual word for a kind, in the singular and the plural."""
    return NOUNS[kind][0].word, NOUNS[kind][0].many


def of(before: str, words: str) -> str:
    r"""`words` after a preposition, which contracts or is elided if it ends in "de": of("au bord de", "le lac")."""
    if not before.endswith(" de") and before != "de":
        return join(before, words)
    stem = before.removesuffix("de")
    if words.startswith("le "):
        return f"{stem}du {words.removeprefix('le ')}"
    return f"{stem}d'{words}" if words[0] in _VOWELS else f"{before} {words}"


def filled(template: str, text: str) -> str:
    r"""The text in a template like "dessine {}" or "une image {de}"."""
    return template.format(text, de=of("de", text))


def _agree(adjective: Adjective, noun: Noun, many: bool) -> str:
    r"""The form of the adjective that agrees with the noun in gender and number."""
    word = adjective[noun.feminine]
    if not many or word in _INVARIABLE or word[-1] in "sx":
        return word
    return word + ("x" if word.endswith("eau") else "s")
