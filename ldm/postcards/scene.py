r"""What a postcard shows: the one description from which its drawing, its captions and its labels are made.

Everything that a caption can say about a postcard is in its `Scene`; everything else (the exact place of a tree, the
hour within a sunset) is left to the random generator of the drawing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PLACES = ("lake", "forest", "sea", "desert", "meadow")
RELIEFS = ("mountains", "hills", "none")  # mountains are snow-capped, hills are green
TIMES = ("sunrise", "day", "sunset", "night")
WEATHERS = ("clear", "rain", "snow", "fog", "rainbow")
STYLES = ("plain", "watercolour", "print")
SLOTS = ("left", "middle", "right")  # thirds of the image, from the left

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
WALLS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")
FURS = ("brown", "black", "white", "grey", "golden")

THINGS = ("waterfall", "boat", "house", "balloon", "flower")
ANIMALS = ("dog", "cat", "rabbit", "bear")
GARMENTS = ("glasses", "hat", "scarf")
POSES = ("portrait", "sitting", "standing")

SUBJECTS = (*PLACES, *ANIMALS, *THINGS, *WEATHERS, *STYLES)  # what a smaller world can do without
PLACES_WITH_WATER = ("lake", "sea")  # the only places where a boat exists
COLOURLESS = ("waterfall", "glasses")  # never described by a colour


@dataclass(frozen=True)
class Thing:
    r"""One object of a landscape: its kind, its colour ("" for a waterfall) and its slot, 0 to 2 from the left."""

    kind: str
    colour: str
    slot: int


@dataclass(frozen=True)
class Garment:
    r"""Something an animal wears; glasses have the colour ""."""

    kind: str
    colour: str


@dataclass(frozen=True)
class Animal:
    r"""An animal, what it wears (in the order of `GARMENTS`), its pose and its slot."""

    kind: str
    fur: str
    wears: tuple[Garment, ...]
    pose: str
    slot: int


@dataclass(frozen=True)
class Scene:
    r"""A postcard: animals in front of a plain wall, or a landscape with up to three things or animals in it.

    With a `wall` colour, the fields of a landscape are empty strings. `sun` is the side of the sun or the moon.
    No two animals and no two things on the ground share a slot, nor do two balloons.
    """

    place: str = ""
    relief: str = ""
    time: str = ""
    weather: str = ""
    sun: str = ""
    wall: str = ""
    style: str = "plain"
    things: tuple[Thing, ...] = ()
    animals: tuple[Animal, ...] = ()

    @property
    def content(self) -> Scene:
        r"""The scene without its arrangement (slots, poses, the side of the sun), which captions seldom name."""
        things = sorted((replace(thing, slot=0) for thing in self.things), key=str)
        animals = sorted((replace(animal, slot=0, pose="") for animal in self.animals), key=str)
        return replace(self, sun="", things=tuple(things), animals=tuple(animals))

    @property
    def sun_is_visible(self) -> bool:
        r"""Whether the sun or the moon can be seen: rain and snow fall from closed clouds."""
        return bool(self.place) and self.weather not in ("rain", "snow")
