r"""Landscapes: sky, relief, the place itself and its feature, drawn from back to front."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ldm.postcards import features, plants
from ldm.postcards.attributes import Landscape
from ldm.postcards.palette import LIGHTS, WHITE, Colour, Light, mix
from ldm.postcards.relief import relief
from ldm.postcards.shapes import Canvas, gradient, ridge, smooth
from ldm.postcards.sky import sky

_PETALS: tuple[Colour, ...] = ((255, 110, 130), (255, 250, 245), (255, 170, 60), (206, 128, 240))


@dataclass(frozen=True)
class Layout:
    r"""What all the drawing functions share: the positions of horizon, feature and sun, and the light."""

    scene: Landscape
    light: Light
    horizon: float
    feature_x: float
    sun_x: float
    side: int  # +1: the feature is on the right and the sun on the left; -1: the other way round
    doubled: bool  # draw the feature twice


def landscape(scene: Landscape, rng: np.random.Generator, size: int, doubled: bool = False) -> Image.Image:
    r"""Draw the scene as a square RGB image of `size` pixels; `doubled` draws its feature twice."""
    side = 1 if rng.random() < 0.5 else -1
    central = scene.place == "forest"  # trees on both sides leave only the middle free
    feature_x = 0.5 + side * (rng.uniform(0.0, 0.05) if central else rng.uniform(0.17, 0.25))
    sun_x = 0.5 - side * rng.uniform(0.18, 0.28)
    light = LIGHTS[scene.time]
    layout = Layout(scene, light, 0.57 + rng.uniform(-0.025, 0.025), feature_x, sun_x, side, doubled)
    canvas = sky(light, scene.time, sun_x, layout.horizon, size, rng)
    relief(scene.relief, canvas, light, layout.horizon, sun_x, rng)
    _PLACES[scene.place](canvas, layout, rng)
    if scene.feature == "balloon":
        for frame in _frames(canvas, layout, 0.5, rng):
            x = 0.5 + side * rng.uniform(0.18, 0.29)
            features.balloon(frame.at(x, rng.uniform(0.48, 0.53), rng.uniform(0.37, 0.42)), light, rng)
    return canvas.image


def _lake(canvas: Canvas, layout: Layout, rng: np.random.Generator) -> None:
    light, h = layout.light, layout.horizon
    far = [h + 0.02, h - 0.035, h - 0.01, h - 0.04, h + 0.02]
    canvas.shape(ridge(far), light.on((84, 160, 86), 0.25))
    for x in (0.05, 0.14, 0.86, 0.95):
        tall = rng.uniform(0.10, 0.16)
        plants.pine(canvas.at(x + rng.uniform(-0.03, 0.03), h + 0.02, tall), light, 0.2)
    shore = h + 0.025
    _water(canvas, layout, shore, (64, 152, 244), 0.30)
    _glitter(canvas, layout, shore, 0.86)
    _feature(canvas, layout, foot=shore + 0.13, on_water=True, rng=rng)
    grass = light.on((92, 172, 76))
    near = [0.88, 0.93, 0.95, 0.92, 0.86] if layout.side < 0 else [0.86, 0.92, 0.95, 0.93, 0.88]
    canvas.shape(ridge([y + rng.uniform(-0.01, 0.01) for y in near]), grass)
    for x in (0.5 - layout.side * 0.42, 0.5 - layout.side * 0.30):
        plants.reeds(canvas.at(x + rng.uniform(-0.03, 0.03), 0.98, rng.uniform(0.17, 0.23)), light)


def _sea(canvas: Canvas, layout: Layout, rng: np.random.Generator) -> None:
    light, h = layout.light, layout.horizon
    _water(canvas, layout, h, (20, 116, 214), 0.80)
    _glitter(canvas, layout, h, 0.80)
    crest = light.bright((190, 232, 250))
    for y, width in ((0.07, 0.016), (0.16, 0.020)):  # rows of scalloped waves, larger when nearer
        start = rng.uniform(-0.2, 0.0)
        for i in range(7):
            x = start + i * 0.19
            arc = [(x + 0.075 * t, h + y - 0.022 * (1 - t * t)) for t in np.linspace(-1, 1, 7)]
            canvas.stroke(arc, crest, width, alpha=150)
    _feature(canvas, layout, foot=h + 0.15, on_water=True, rng=rng)
    beach = [0.90, 0.86, 0.89, 0.85, 0.88]
    beach = [y + rng.uniform(-0.012, 0.012) for y in (beach if layout.side > 0 else beach[::-1])]
    canvas.shape(ridge([y - 0.035 for y in beach]), light.bright(WHITE))
    canvas.shape(ridge(beach), light.on((250, 218, 150)))


def _forest(canvas: Canvas, layout: Layout, rng: np.random.Generator) -> None:
    light, h, x = layout.light, layout.horizon, layout.feature_x
    canvas.shape(ridge([h + 0.05, h + 0.02, h + 0.03, h + 0.02, h + 0.05]), light.on((104, 172, 78)))
    # Distant trees, taller towards the edges so that the relief stays visible in the middle.
    for away in (0.50, 0.41, 0.33):
        for edge in (-1, 1):
            tall = 0.19 + (away - 0.3) * 0.6 + rng.uniform(-0.02, 0.02)
            plants.pine(canvas.at(0.5 + edge * away, h + 0.10, tall), light, 0.22)
    if layout.scene.feature == "waterfall":
        for frame in _frames(canvas, layout, 0.745, rng):
            features.waterfall(frame.at(x, 0.745, rng.uniform(0.385, 0.415)), light, pool=True)
        _ribbon(canvas, x, 0.765, 0.18, light.bright((104, 184, 240)))
    else:
        _ribbon(canvas, x, h + 0.06, 0.05, light.on((232, 196, 136)))
        _feature(canvas, layout, foot=0.78, on_water=False, rng=rng)
    for away, foot, tall in ((0.38, 0.82, 0.38), (0.48, 0.98, 0.62)):
        for edge in (-1, 1):
            size = tall + rng.uniform(-0.05, 0.05)
            plants.pine(canvas.at(0.5 + edge * (away + rng.uniform(-0.02, 0.02)), foot, size), light)


def _desert(canvas: Canvas, layout: Layout, rng: np.random.Generator) -> None:
    light, h, side = layout.light, layout.horizon, layout.side
    sand: Colour = (244, 190, 104)
    slopes = ([0.05, -0.03, 0.04, 0.0, 0.05], [0.10, 0.17, 0.11, 0.06, 0.13])
    for i, slope in enumerate(slopes):
        heights = [h + rise + rng.uniform(-0.012, 0.012) for rise in slope[::side]]
        canvas.shape(ridge(heights), light.on(mix(sand, (255, 226, 154), 0.5 - i / 2), 0.15 - 0.15 * i))
    _feature(canvas, layout, foot=h + 0.22, on_water=False, rng=rng)
    front = [0.80, 0.86, 0.93, 0.97, 0.99]
    heights = [y + rng.uniform(-0.012, 0.012) for y in front[::side]]
    canvas.shape(ridge(heights), light.on((226, 156, 78)))
    plants.cactus(canvas.at(0.5 - side * rng.uniform(0.26, 0.34), 0.90, rng.uniform(0.34, 0.42)), light)


def _meadow(canvas: Canvas, layout: Layout, rng: np.random.Generator) -> None:
    light, h, side = layout.light, layout.horizon, layout.side
    canvas.shape(ridge([h + 0.02, h - 0.015, h + 0.02, h, h + 0.02]), light.on((150, 206, 92), 0.1))
    plants.round_tree(
        canvas.at(0.5 - side * rng.uniform(0.30, 0.40), h + 0.10, rng.uniform(0.26, 0.32)), light
    )
    heights = [h + rise + rng.uniform(-0.01, 0.01) for rise in (0.10, 0.06, 0.10, 0.07, 0.11)]
    canvas.shape(ridge(heights), light.on((116, 190, 78)))
    _feature(canvas, layout, foot=h + 0.17, on_water=False, rng=rng)
    heights = [0.84 + rng.uniform(-0.012, 0.012) for _ in range(5)]
    canvas.shape(ridge(heights), light.on((88, 168, 68)))
    first = rng.integers(len(_PETALS))
    for i, x in enumerate((0.08, 0.25, 0.42, 0.58, 0.75, 0.92)):
        foot = (0.96 if i % 2 else 1.02) + rng.uniform(-0.01, 0.01)
        petals = _PETALS[(first + i) % len(_PETALS)]
        plants.flower(canvas.at(x + rng.uniform(-0.03, 0.03), foot, rng.uniform(0.15, 0.18)), light, petals)


def _feature(canvas: Canvas, layout: Layout, foot: float, on_water: bool, rng: np.random.Generator) -> None:
    r"""Draw a feature on the ground or on the water; `landscape` draws the balloon, which flies, last."""
    x, light, name = layout.feature_x, layout.light, layout.scene.feature
    for frame in _frames(canvas, layout, foot, rng):
        if name == "waterfall":
            tall = rng.uniform(0.42, 0.46)
            features.waterfall(frame.at(x, foot, tall), light, pool=not on_water)
        elif name == "boat":
            features.boat(frame.at(x, foot + 0.02, rng.uniform(0.36, 0.42)), light, rng)
        elif name == "house":
            tall = rng.uniform(0.30, 0.34)
            if on_water:  # a house needs an island
                island = smooth([(-0.26, 0.02), (0, -0.045), (0.26, 0.02), (0, 0.06)])
                frame.at(x, foot - 0.02).shape(island, light.on((110, 176, 84)))
            features.house(frame.at(x, foot - 0.01, tall), light, rng)


def _frames(canvas: Canvas, layout: Layout, foot: float, rng: np.random.Generator) -> list[Canvas]:
    r"""The canvas for the feature and, if it is doubled, a second one, shifted to the other side.

    The second feature is no larger than the first, in front of it or behind it, and may overlap it.
    """
    if not layout.doubled:
        return [canvas]
    x, size = layout.feature_x, rng.uniform(0.6, 1.0)
    far = 0.33 if layout.scene.place == "forest" else 0.48  # any further out, a forest's trees would hide it
    to_x, to_y = x - layout.side * rng.uniform(0.26, far), foot + rng.uniform(-0.04, 0.03)
    frames = [canvas, canvas.at(to_x - size * x, to_y - size * foot, size)]
    return frames if rng.random() < 0.5 else frames[::-1]


def _water(canvas: Canvas, layout: Layout, shore: float, colour: Colour, depth: float) -> None:
    r"""Reflect what is above the shore in the water below; `depth` in [0, 1] is the water's opacity."""
    size = canvas.image.width
    top = round(shore * size)
    height = size - top
    above = canvas.image.crop((0, top - height, size, top)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    lit = layout.light.on(colour)
    water = gradient([(0, mix(lit, layout.light.middle, 0.45)), (1, lit)], size).crop((0, 0, size, height))
    canvas.image.paste(Image.blend(above, water, depth), (0, top))


def _glitter(canvas: Canvas, layout: Layout, shore: float, end: float) -> None:
    r"""The sun's reflection on the water: a few bars, wider towards the viewer."""
    for i in range(4):
        y = shore + 0.03 + (end - shore) * i / 4.4
        canvas.oval(layout.sun_x, y, 0.07 + 0.022 * i, 0.011 + 0.002 * i, layout.light.sun, alpha=200)


def _ribbon(canvas: Canvas, x: float, top: float, width: float, colour: Colour) -> None:
    r"""A path or stream that starts at (x, top) and widens towards the lower edge."""
    left = [(x - width / 2, top), (x - width * 0.6 - 0.03, top + 0.10), (x - 0.14, 0.9), (x - 0.24, 1.05)]
    right = [(x + 0.20, 1.05), (x + 0.08, 0.9), (x + width * 0.6, top + 0.10), (x + width / 2, top)]
    canvas.shape(smooth([*left, *right]), colour)


_PLACES: dict[str, Callable[[Canvas, Layout, np.random.Generator], None]] = {
    "lake": _lake,
    "forest": _forest,
    "sea": _sea,
    "desert": _desert,
    "meadow": _meadow,
}
