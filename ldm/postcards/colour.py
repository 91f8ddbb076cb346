r"""Colours: how to mix them, and how the light of each time of day and each weather changes them.

A colour is (red, green, blue) with values in [0, 255]; they stay floats until they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

Real = int | float  # the runtime type checker does not accept an int as `float`
Colour = tuple[Real, Real, Real]

WHITE: Colour = (255, 255, 255)
INK: Colour = (46, 36, 52)  # a warm near-black, softer than black
SNOW: Colour = (240, 246, 255)

# The colours that captions name.
PAINT: dict[str, Colour] = {
    "red": (224, 48, 54),
    "orange": (248, 136, 36),
    "yellow": (255, 212, 56),
    "green": (44, 164, 84),
    "teal": (32, 170, 172),
    "blue": (52, 106, 224),
    "purple": (136, 76, 200),
    "pink": (250, 140, 190),
    "white": (252, 250, 244),
    "black": (50, 48, 60),
}

FUR: dict[str, Colour] = {
    "brown": (146, 92, 58),
    "black": (66, 64, 78),
    "white": (250, 247, 242),
    "grey": (150, 158, 174),
    "golden": (238, 164, 62),
}


def mix(a: Colour, b: Colour, weight: Real) -> Colour:
    r"""(1 - weight) a + weight b, for weight in [0, 1]."""
    return tuple(x + (y - x) * weight for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def rgb(colour: Colour, alpha: int | None = None) -> tuple[int, ...]:
    r"""The integers in [0, 255] that Pillow expects; `alpha` below 255 makes the colour translucent."""
    whole = tuple(max(0, min(255, round(value))) for value in colour)
    return whole if alpha is None else (*whole, alpha)


def darker(colour: Colour, weight: Real = 0.3) -> Colour:
    r"""The colour in shade: a step towards ink; light colours take a smaller step."""
    return mix(colour, INK, weight if sum(colour) < 690 else weight * 0.6)


@dataclass(frozen=True)
class Light:
    r"""The light of one moment: the sky's three bands, the sun or moon, and the tint of lit objects."""

    zenith: Colour
    middle: Colour
    horizon: Colour
    sun: Colour
    glow: Colour
    cloud: Colour
    tint: Colour  # each channel of a lit colour is multiplied by this / 255
    ambient: Colour  # and this is added
    sun_y: Real  # height of the sun's centre above the horizon, as a share of the sky
    snow: Real = 0  # the share of snow on the ground

    def on(self, colour: Colour, haze: Real = 0) -> Colour:
        r"""How `colour` looks in this light, fading into the sky as `haze` goes from 0 to 1."""
        lit = tuple(c * t / 255 + a for c, t, a in zip(colour, self.tint, self.ambient, strict=True))
        return mix(lit, mix(self.middle, self.horizon, 0.5), haze)  # type: ignore[arg-type]

    def ground(self, colour: Colour, haze: Real = 0) -> Colour:
        r"""How a surface of that colour looks, which may lie under snow."""
        return self.on(mix(colour, SNOW, self.snow), haze)

    def vivid(self, colour: Colour) -> Colour:
        r"""How `colour` looks on things that must keep it: objects whose colour a caption names, snow, foam."""
        return mix(self.on(colour), colour, 0.62)


# Each time of day is a range, from its first moment to its last; a drawing picks a moment.
MOMENTS: dict[str, tuple[Light, Light]] = {
    "sunrise": (
        Light((50, 58, 136), (178, 112, 176), (255, 176, 152), (255, 230, 190), (255, 186, 176),
              (232, 150, 188), (134, 118, 168), (22, 10, 26), 0.10),
        Light((170, 220, 250), (255, 228, 214), (255, 246, 200), (255, 252, 222), (255, 250, 214),
              (255, 238, 232), (255, 244, 228), (26, 20, 18), 0.45),
    ),
    "day": (
        Light((12, 84, 200), (58, 144, 236), (160, 212, 250), (255, 224, 66), (255, 250, 206),
              (255, 255, 255), (226, 234, 250), (0, 0, 0), 0.86),
        Light((132, 208, 236), (188, 232, 240), (244, 250, 236), (255, 236, 120), (255, 252, 224),
              (255, 255, 255), (255, 254, 240), (26, 26, 12), 0.62),
    ),
    "sunset": (
        Light((150, 116, 160), (252, 152, 86), (255, 218, 112), (255, 232, 110), (255, 206, 100),
              (255, 168, 120), (252, 196, 140), (24, 10, 8), 0.38),
        Light((40, 16, 70), (160, 32, 82), (244, 92, 46), (252, 70, 40), (255, 120, 60),
              (206, 66, 96), (112, 74, 98), (18, 2, 16), 0.05),
    ),
    "night": (
        Light((30, 54, 136), (66, 108, 186), (136, 172, 222), (255, 250, 220), (150, 176, 230),
              (84, 110, 176), (144, 164, 206), (10, 20, 58), 0.80),
        Light((4, 6, 24), (14, 18, 54), (36, 40, 90), (248, 238, 200), (80, 84, 150),
              (34, 40, 84), (96, 108, 154), (8, 12, 36), 0.60),
    ),
}  # fmt: skip

# What a weather mixes into the sky (colour by day, colour at night, share at the zenith, share at the horizon),
# how much light it leaves, and the snow it puts on the ground.
_CLOUDS: dict[str, tuple[Colour, Colour, Real, Real, Real, Real]] = {
    "rain": ((104, 120, 142), (34, 40, 62), 0.74, 0.36, 0.80, 0.0),
    "snow": ((156, 172, 202), (46, 54, 88), 0.66, 0.50, 0.96, 0.86),
    "fog": ((222, 226, 230), (84, 92, 120), 0.56, 0.50, 0.92, 0.0),
}


def light_at(time: str, weather: str, moment: Real) -> Light:
    r"""The light at a `moment` in [0, 1] of a time of day, under a weather."""
    first, last = MOMENTS[time]
    names = [field.name for field in fields(Light)]
    light = Light(*(_between(getattr(first, name), getattr(last, name), moment) for name in names))  # type: ignore[arg-type]
    if weather not in _CLOUDS:
        return light
    by_day, by_night, above, below, left, snow = _CLOUDS[weather]
    grey = by_night if time == "night" else by_day
    return replace(
        light,
        zenith=mix(light.zenith, grey, above),
        middle=mix(light.middle, grey, above),
        horizon=mix(light.horizon, grey, below),
        glow=mix(light.glow, grey, 0.5),
        cloud=mix(light.cloud, grey, 0.6),
        tint=mix((0, 0, 0), light.tint, left),
        snow=snow,
    )


def _between(a: Colour | Real, b: Colour | Real, weight: Real) -> Colour | Real:
    if isinstance(a, tuple):
        return mix(a, b, weight)  # type: ignore[arg-type]
    return a + (b - a) * weight  # type: ignore[operator]
