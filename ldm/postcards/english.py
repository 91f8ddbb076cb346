r"""English phrases: the words for each part of a plan, which `sentences.py` arranges."""

from __future__ import annotations

import numpy as np

from ldm.postcards.plan import Group
from ldm.postcards.scene import ANIMALS
from ldm.postcards.words import join, maybe, pick

AND, WITH, NO = "and", "with", "no"
TOGETHER = ("and", "next to", "beside", "and also", "together with")  # two things or animals

MOODS = ("serene", "calm", "quiet", "peaceful", "tranquil", "silent", "beautiful", "lovely", "pretty", "wild")
PLACES = {
    "lake": ("lake", "pond"),
    "forest": ("forest", "woodland", "wood", "pine forest"),
    "sea": ("sea", "ocean", "beach", "seaside", "coast"),
    "desert": ("desert", "sandy desert", "sand desert"),
    "meadow": ("meadow", "prairie", "field", "green field", "pasture"),
}
RELIEFS = {
    "mountains": (
        "snow-capped mountains",
        "snowy mountains",
        "mountains",
        "snow-capped peaks",
        "snow-covered mountains",
        "high mountains",
    ),
    "hills": ("green hills", "hills", "rolling hills", "gentle hills"),
}
AROUND = ("surrounded by {}", "with {}", "in front of {}", "below {}", "ringed by {}", "at the foot of {}", "near {}",
          "with {} behind", "with {} behind it", "with {} in the background")  # fmt: skip
TIMES = {
    "sunrise": ("at sunrise", "at dawn", "at daybreak", "in the early morning", "as the sun rises", "in the morning",
                "at first light"),
    "day": ("by day", "in daylight", "at noon", "at midday", "in the daytime", "during the day",
            "in the afternoon"),
    "sunset": ("at sunset", "at dusk", "in the evening", "as the sun sets", "in the evening light", "at sundown"),
    "night": ("at night", "by night", "by moonlight", "under the moon", "under the stars", "at midnight",
              "in the moonlight", "after dark"),
}  # fmt: skip
SUNNY = ("on a sunny day", "under a blue sky", "in the sunshine", "in bright sunlight")  # a clear day
MOMENTS = {
    "sunrise": ("sunrise", "dawn", "daybreak"),
    "day": ("midday", "daylight", "day"),
    "sunset": ("sunset", "dusk", "evening"),
    "night": ("night", "moonlight", "starry night"),
}
WEATHERS = {
    "rain": ("in the rain", "on a rainy day", "while it is raining", "in heavy rain"),
    "snow": ("in the snow", "in winter", "while it is snowing", "under falling snow"),
    "fog": ("in the fog", "in the mist", "in thick fog", "on a foggy day"),
    "rainbow": ("with a rainbow", "under a rainbow", "and a rainbow"),
}
WEATHER_TAGS = {
    "rain": ("rain", "rainy"),
    "snow": ("snow", "winter"),
    "fog": ("fog", "mist"),
    "rainbow": ("rainbow",),
}
WET = {"rain": ("rainy",), "snow": ("wintry", "snow-covered"), "fog": ("foggy", "misty")}  # before a place

# Singular and plural of each thing, animal and garment.
NOUNS = {
    "waterfall": (("waterfall", "waterfalls"), ("cascade", "cascades")),
    "boat": (("boat", "boats"), ("ship", "ships")),
    "house": (("house", "houses"), ("cottage", "cottages"), ("cabin", "cabins")),
    "balloon": (("balloon", "balloons"), ("hot-air balloon", "hot-air balloons"),
                ("hot air balloon", "hot air balloons")),
    "flower": (("flower", "flowers"),),
    "dog": (("dog", "dogs"), ("puppy", "puppies"), ("doggy", "doggies")),
    "cat": (("cat", "cats"), ("kitten", "kittens"), ("kitty", "kitties")),
    "rabbit": (("rabbit", "rabbits"), ("bunny", "bunnies"), ("hare", "hares")),
    "bear": (("bear", "bears"), ("teddy bear", "teddy bears"), ("bear cub", "bear cubs")),
    "glasses": (("glasses", "glasses"), ("eyeglasses", "eyeglasses"), ("spectacles", "spectacles"),
                ("a pair of glasses", "glasses")),
    "hat": (("hat", "hats"),),
    "scarf": (("scarf", "scarves"),),
}  # fmt: skip
COLOURS = {
    "red": ("red", "scarlet"),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "teal": ("teal", "turquoise"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rose"),
    "white": ("white",),
    "brown": ("brown", "chocolate"),
    "black": ("black",),
    "grey": ("grey", "gray", "silver"),
    "golden": ("golden", "ginger"),
}
PRETTY = ("little", "small", "pretty", "big", "beautiful")
COUNTS = {2: ("two", "2", "a pair of"), 3: ("three", "3")}
CUTE = ("cute", "little", "happy", "friendly", "smiling", "sweet", "small", "funny")
WEARING = (
    ("with", "with"),
    ("wearing", "wearing"),
    ("in", "in"),
    ("who wears", "who wear"),
    ("that has", "that have"),
)
SIDES = {
    "left": ("on the left", "to the left", "on the left side"),
    "middle": ("in the middle", "in the centre", "in the center"),
    "right": ("on the right", "to the right", "on the right side"),
}
LEFT_OF = ("to the left of", "left of", "on the left of")
RIGHT_OF = ("to the right of", "right of", "on the right of")
WITHOUT = ("without {0}", "without {1}", "with no {1}")
BODIES = {"sun": "the sun", "moon": "the moon"}
MOMENT_OVER = "{} over"
WHERE = {"balloon": ("over", "above"), "boat": ("on",)}
ASHORE, INSIDE = ("by", "at", "near", "beside"), ("in",)
BEHIND = (
    "on {a} background",
    "against {a} background",
    "in front of {a} wall",
    "on {bare}",
    "before {a} wall",
)
OPENERS = ("a picture of {}", "an image of {}", "a drawing of {}", "a postcard of {}", "an illustration of {}",
           "draw {}", "paint {}", "please draw {}", "{} please", "show me {}", "I would like {}",
           "can you draw {} please",
           "there is {}", "I want {}", "a nice picture of {}")  # fmt: skip
STYLES = {
    "watercolour": ("a watercolour of {}", "a watercolor of {}", "{} in watercolour", "{}, watercolor",
                    "a watercolour painting of {}", "{} as a watercolour"),
    "print": ("a print of {}", "a woodblock print of {}", "{} as a print", "{}, print", "a linocut of {}"),
}  # fmt: skip
STYLE_TAGS = {"watercolour": ("watercolour", "watercolor"), "print": ("print", "woodblock print", "linocut")}


def names(kind: str) -> set[str]:
    r"""The words for a place, a relief, a thing, an animal, a garment, "rainbow", "sun" or "moon"."""
    found = {
        *PLACES.get(kind, ()),
        *RELIEFS.get(kind, ()),
        *(form for pair in NOUNS.get(kind, ()) for form in pair),
    }
    return found or {kind}


def group(what: Group, rng: np.random.Generator) -> str:
    r"""A noun phrase: "two red boats", "a little black cat with glasses and a red hat on the left"."""
    noun = pick(NOUNS[what.kind], rng)[what.count > 1]
    colour = pick(COLOURS[what.colour], rng) if what.colour else ""
    beast, with_fur = what.kind in ANIMALS, bool(what.colour) and rng.random() < 0.06
    pose_first = rng.random() < 0.5
    head = join(
        maybe(CUTE if beast else PRETTY, 0.12, rng),
        what.pose if pose_first else "",
        "" if beast and with_fur else colour,
        noun,
    )
    fur = join("with", colour, "fur") if beast and with_fur else ""
    worn = " and ".join(garment(g.kind, g.colour, what.count, rng) for g in what.wears)
    wearing = join("and" if fur else pick(WEARING, rng)[what.count > 1], worn) if worn else ""
    lacks = join("but" if worn else "", pick(WITHOUT, rng).format(*bare(what.lacks))) if what.lacks else ""
    side = pick(SIDES[what.side], rng) if what.side else ""
    return join(counted(head, what.count, rng), "" if pose_first else what.pose, fur, wearing, lacks, side)


def garment(kind: str, colour: str, count: int, rng: np.random.Generator) -> str:
    r"""What is worn: "glasses", "a red hat"; on several, "red hats"."""
    worn = join(pick(COLOURS[colour], rng) if colour else "", pick(NOUNS[kind], rng)[count > 1])
    return worn if kind == "glasses" or count > 1 else a(worn)


def counted(noun: str, count: int, rng: np.random.Generator) -> str:
    r"""With a number or an article: "two boats"; "a boat", "the boat", "one boat" or just "boat"."""
    if count > 1:
        return join(pick(COUNTS[count], rng), noun)
    way = rng.random()
    return a(noun) if way < 0.78 else f"the {noun}" if way < 0.84 else f"one {noun}" if way < 0.88 else noun


def place(
    name: str, weather: str, rng: np.random.Generator, bare: bool = False
) -> tuple[str, str, bool | None]:
    r"""A place with its article (or `bare`), the weather that is left to say, and its gender, None in English."""
    wet = ""
    if weather in WET and rng.random() < 0.3:
        wet, weather = pick(WET[weather], rng), ""
    noun = join(maybe(MOODS, 0.35, rng), wet, pick(PLACES[name], rng))
    way = rng.random()
    text = noun if bare or way < 0.12 else f"the {noun}" if way < 0.30 else a(noun)
    return text, weather, None


def around(relief: str, _gender: bool | None, rng: np.random.Generator) -> str:
    r"""How the relief lies around: "surrounded by snow-capped mountains"."""
    return pick(AROUND, rng).format(pick(RELIEFS[relief], rng))


def wall(colour: str, rng: np.random.Generator) -> str:
    r"""The wall or background behind an animal: "in front of a red wall"."""
    word = pick(COLOURS[colour], rng)
    return pick(BEHIND, rng).format(a=a(word), bare=word)


def without(kind: str, rng: np.random.Generator) -> str:
    r"""That there is nothing of a kind: "without a boat", "without boats", "with no boats"."""
    return pick(WITHOUT, rng).format(*bare(kind))


def bare(kind: str) -> tuple[str, str]:
    r"""The usual word for a kind with its article, and its plural."""
    one, many = NOUNS[kind][0]
    return many if kind == "glasses" else a(one), many


def of(before: str, words: str) -> str:
    r"""`words` after a preposition; in French the two may contract."""
    return join(before, words)


def filled(template: str, text: str) -> str:
    r"""The text in a template like "a picture of {}"."""
    return template.format(text)


def a(noun: str) -> str:
    r"""With the indefinite article; what has one already is left as it is."""
    return noun if noun.startswith("a ") else f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
