r"""Colours: how to mix them, and how the light at each time of day changes them.

A colour is (red, green, blue) with values in [0, 255]; they stay floats until they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

Real = int | float  # the runtime type checker does not accept an int as `float`
Colour = tuple[Real, Real, Real]

WHITE: Colour = (255, 255, 255)
INK: Colour = (46, 36, 48)  # outlines: a warm near-black is softer than black


def mix(a: Colour, b: Colour, weight: Real) -> Colour:
    r"""(1 - weight) a + weight b, for weight in [0, 1]."""
    return tuple(x + (y - x) * weight for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def rgb(colour: Colour, alpha: int | None = None) -> tuple[int, ...]:
    r"""The integers in [0, 255] that Pillow expects; `alpha` below 255 makes the colour translucent."""
    whole = tuple(max(0, min(255, round(value))) for value in colour)
    return whole if alpha is None else (*whole, alpha)


@dataclass(frozen=True)
class Light:
    r"""The light at one time of day: the sky's three bands, the sun or moon, and the tint of lit objects."""

    zenith: Colour
    middle: Colour
    horizon: Colour
    sun: Colour
    glow: Colour
    sun_y: Real  # height of the sun's centre, 0 at the top of the image and 1 at the bottom
    sun_radius: Real
    tint: Colour  # each channel of a lit colour is multiplied by this / 255
    ambient: Colour  # and this is added
    cloud: Colour

    def on(self, colour: Colour, haze: Real = 0) -> Colour:
        r"""How `colour` looks in this light, fading into the sky as `haze` goes from 0 to 1."""
        lit = tuple(c * t / 255 + a for c, t, a in zip(colour, self.tint, self.ambient, strict=True))
        return mix(lit, self.middle, haze)  # type: ignore[arg-type]

    def bright(self, colour: Colour) -> Colour:
        r"""How `colour` looks on things brighter than their surroundings: snow, foam, lamps."""
        return mix(self.on(colour), colour, 0.55)


LIGHTS = {
    "sunrise": Light(
        zenith=(150, 186, 236),
        middle=(252, 188, 202),
        horizon=(255, 232, 172),
        sun=(255, 250, 214),
        glow=(255, 244, 196),
        sun_y=0.33,
        sun_radius=0.10,
        tint=(255, 232, 218),
        ambient=(12, 6, 12),
        cloud=(255, 226, 226),
    ),
    "day": Light(
        zenith=(40, 132, 232),
        middle=(112, 188, 248),
        horizon=(206, 238, 252),
        sun=(255, 226, 72),
        glow=(255, 250, 200),
        sun_y=0.16,
        sun_radius=0.10,
        tint=(255, 255, 255),
        ambient=(0, 0, 0),
        cloud=(255, 255, 255),
    ),
    "sunset": Light(
        zenith=(88, 40, 126),
        middle=(216, 66, 104),
        horizon=(255, 150, 56),
        sun=(246, 52, 36),
        glow=(255, 168, 72),
        sun_y=0.36,
        sun_radius=0.14,
        tint=(206, 160, 152),
        ambient=(24, 4, 14),
        cloud=(250, 132, 120),
    ),
    "night": Light(
        zenith=(10, 16, 52),
        middle=(32, 54, 124),
        horizon=(80, 110, 186),
        sun=(252, 246, 210),
        glow=(150, 166, 220),
        sun_y=0.15,
        sun_radius=0.10,
        tint=(118, 140, 188),
        ambient=(8, 16, 48),
        cloud=(60, 74, 128),
    ),
}

FUR: dict[str, Colour] = {
    "brown": (150, 92, 54),
    "black": (62, 60, 72),
    "white": (252, 250, 246),
    "grey": (152, 160, 174),
    "golden": (240, 160, 48),
    "cream": (246, 224, 180),
}

BACKGROUND: dict[str, Colour] = {
    "red": (222, 62, 66),
    "orange": (246, 142, 50),
    "yellow": (250, 212, 76),
    "green": (92, 184, 98),
    "teal": (40, 172, 170),
    "blue": (68, 128, 228),
    "purple": (142, 92, 206),
    "pink": (250, 158, 196),
}
