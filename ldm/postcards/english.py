r"""English captions: the words for each attribute and the ways to arrange them.

A grammar function takes the attributes to name (None for one that is left out or that the scene does not have) and a
random generator, and returns one phrase without a full stop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ldm.postcards.phrases import join, pick, shuffled

MOODS = (
    "serene",
    "calm",
    "quiet",
    "peaceful",
    "tranquil",
    "silent",
    "gentle",
    "beautiful",
    "lovely",
    "pretty",
)
PLACES = {
    "lake": ("lake", "lake", "lake", "pond"),
    "forest": ("forest", "forest", "forest", "woodland", "wood", "pine forest"),
    "sea": ("sea", "sea", "ocean", "seaside", "beach"),
    "desert": ("desert", "desert", "desert", "sandy desert"),
    "meadow": ("meadow", "meadow", "prairie", "flower meadow", "field of flowers"),
}
RELIEFS = {
    "mountains": (
        "snow-capped mountains",
        "snow-capped mountains",
        "snowy mountains",
        "mountains",
        "snow-capped peaks",
        "snow-covered mountains",
        "snowy peaks",
    ),
    "hills": ("green hills", "green hills", "hills", "rolling hills", "gentle hills"),
}
AROUND = ("surrounded by", "surrounded by", "with", "in front of", "below", "ringed by", "framed by")
TIMES = {
    "sunrise": (
        "at sunrise",
        "at sunrise",
        "at sunrise",
        "at dawn",
        "at daybreak",
        "in the early morning",
        "as the sun rises",
    ),
    "day": (
        "by day",
        "in daylight",
        "at noon",
        "at midday",
        "in the daytime",
        "on a sunny day",
        "under a blue sky",
    ),
    "sunset": ("at sunset", "at sunset", "at sunset", "at dusk", "in the evening", "as the sun sets"),
    "night": (
        "at night",
        "at night",
        "at night",
        "by night",
        "by moonlight",
        "under the moon",
        "under the stars",
        "at midnight",
    ),
}
MOMENTS = {
    "sunrise": ("sunrise", "dawn", "daybreak"),
    "day": ("midday", "blue sky", "daylight"),
    "sunset": ("sunset", "dusk", "evening"),
    "night": ("night", "moonlight", "starry night"),
}
FEATURES = {
    "waterfall": ("waterfall", "waterfall", "waterfall", "cascade", "big waterfall"),
    "boat": ("boat", "boat", "sailing boat", "sailboat", "little boat"),
    "house": ("house", "house", "cottage", "little house", "cabin"),
    "balloon": ("balloon", "hot-air balloon", "hot-air balloon", "air balloon"),
}
WHERE = {"waterfall": ("in",), "boat": ("on",), "house": ("in",), "balloon": ("over", "above")}
WHERE_BY_WATER = {**WHERE, "waterfall": ("by",), "house": ("by", "near")}

CUTE = ("cute", "little", "happy", "friendly", "smiling", "sweet")
ANIMALS = {
    "dog": ("dog", "dog", "dog", "puppy", "doggy"),
    "cat": ("cat", "cat", "cat", "kitten", "kitty"),
    "rabbit": ("rabbit", "rabbit", "bunny", "hare"),
    "bear": ("bear", "bear", "bear", "teddy bear", "bear cub"),
}
FURS = {
    "brown": ("brown", "brown", "chocolate"),
    "black": ("black", "black", "jet-black"),
    "white": ("white", "white", "snow-white"),
    "grey": ("grey", "gray", "silver"),
    "golden": ("golden", "golden", "ginger"),
    "cream": ("cream", "cream", "beige"),
}
ACCESSORIES = {
    "glasses": ("glasses", "glasses", "glasses", "eyeglasses", "spectacles", "round glasses"),
    "hat": ("a hat", "a hat", "a top hat", "a big hat"),
    "scarf": ("a scarf", "a scarf", "a striped scarf", "a warm scarf"),
}
WEARING = ("with", "with", "wearing", "in")
BACKGROUNDS = {
    "red": ("red", "red", "scarlet"),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "teal": ("teal", "turquoise"),
    "blue": ("blue", "blue", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "pink", "rose"),
}
BEHIND = (
    "on {a_colour} background",
    "on {a_colour} background",
    "against {a_colour} background",
    "in front of {a_colour} wall",
    "on {colour}",
)
OPENERS = ("a postcard of", "a picture of", "a drawing of", "an illustration of")


def landscape(
    place: str, relief: str | None, time: str | None, feature: str | None, rng: np.random.Generator
) -> str:
    r"""One caption; `relief`, `time` or `feature` is omitted if None."""
    head = _maybe(MOODS, 0.45, rng) + pick(PLACES[place], rng)
    around = [f"{pick(AROUND, rng)} {pick(RELIEFS[relief], rng)}"] if relief else []
    when = [pick(TIMES[time], rng)] if time else []
    way = rng.random()
    prepositions = WHERE_BY_WATER if place in ("lake", "sea") else WHERE
    if feature and way < 0.22:  # the feature first: "a boat on a calm lake at dusk"
        name, where = pick(FEATURES[feature], rng), pick(prepositions[feature], rng)
        return join(_with_article(name, rng), where, _a(head), *shuffled(around + when, rng))
    beside = [f"with {_a(pick(FEATURES[feature], rng))}"] if feature else []
    if time and way > 0.93:  # the moment first: "dawn over a forest"
        return join(pick(MOMENTS[time], rng), "over", _a(head), *shuffled(around + beside, rng))
    if time and way > 0.83:  # "at dawn, a forest"
        return join(when[0] + ",", _with_article(head, rng), *shuffled(around + beside, rng))
    details = around + beside + when if rng.random() < 0.5 else shuffled(around + beside + when, rng)
    return _opened(head, details, rng)


def portrait(
    animal: str, fur: str | None, accessory: str | None, background: str | None, rng: np.random.Generator
) -> str:
    r"""One caption; `fur`, `accessory` or `background` is omitted if None."""
    head = pick(ANIMALS[animal], rng)
    details = []
    if fur:
        colour = pick(FURS[fur], rng)
        if rng.random() < 0.12:
            head = f"{head} with {colour} fur"
        else:
            head = f"{colour} {head}"
    head = _maybe(CUTE, 0.2, rng) + head
    if accessory:
        details.append(f"{pick(WEARING, rng)} {pick(ACCESSORIES[accessory], rng)}")
    if background:
        behind, colour = pick(BEHIND, rng), pick(BACKGROUNDS[background], rng)
        behind = behind.format(a_colour=_a(colour), colour=colour)
        if rng.random() < 0.1:  # "on a blue background, a cat"
            return join(behind + ",", _with_article(head, rng), *details)
        details.append(behind)
    if rng.random() < 0.25:
        details = shuffled(details, rng)
    return _opened(head, details, rng)


def _opened(head: str, details: list[str], rng: np.random.Generator) -> str:
    if rng.random() < 0.1:
        return join(pick(OPENERS, rng), _a(head), *details)
    return join(_with_article(head, rng), *details)


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _with_article(noun: str, rng: np.random.Generator) -> str:
    way = rng.random()
    return _a(noun) if way < 0.70 else f"the {noun}" if way < 0.80 else noun


def _maybe(words: Sequence[str], chance: float, rng: np.random.Generator) -> str:
    return pick(words, rng) + " " if rng.random() < chance else ""
