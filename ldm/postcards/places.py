r"""The places: lake, sea, forest, desert and meadow, each in two or three layouts, either of them mirrored.

A place is drawn over sky and relief, from the horizon down, and says where things can stand on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ldm.postcards import plants
from ldm.postcards.canvas import Canvas, gradient, ridge, smooth
from ldm.postcards.colour import WHITE, Colour, Light, mix
from ldm.postcards.relief import meadow_green
from ldm.postcards.scene import Scene

HORIZONS = {"lake": (0.38, 0.66), "sea": (0.40, 0.66), "forest": (0.50, 0.70), "desert": (0.44, 0.70),
    "meadow": (0.42, 0.70)}  # fmt: skip


@dataclass(frozen=True)
class Ground:
    r"""Heights in the image: where houses and waterfalls stand, where animals and flowers stand, where boats float."""

    far: float
    near: float
    water: float
    islets: bool = False  # whether what stands far away needs an islet under it


@dataclass(frozen=True)
class Setting:
    r"""What the places share."""

    canvas: Canvas
    light: Light
    horizon: float
    sun: tuple[float, float] | None  # None if it cannot be seen
    bay: bool = True  # whether a bank may reach into the water on the frame's left


def place(scene: Scene, setting: Setting, rng: np.random.Generator) -> Ground:
    r"""Draw the place and return where things can stand on it."""
    boats = {thing.slot for thing in scene.things if thing.kind == "boat"}
    facing = 1 if rng.random() < 0.5 else -1
    if boats & {0, 2}:  # no boat lies on land
        setting = replace(setting, bay=not {0, 2} <= boats)
        facing = -1 if 0 in boats else 1
    frame = setting.canvas.at(0.0 if facing > 0 else 1.0, 0.0, facing=facing)
    with setting.canvas.marked(scene.place):
        return _PLACES[scene.place](frame, setting, rng)


def _lake(frame: Canvas, setting: Setting, rng: np.random.Generator) -> Ground:
    r"""A lake that fills the foreground, one in a bay with a wooded bank, or a smaller one behind a meadow."""
    light, h, layout = setting.light, setting.horizon, int(rng.integers(3))
    layout = layout if setting.bay or layout != 1 else 0
    bank, tone = light.ground((86, 164, 88), 0.25), rng.uniform(0, 1)
    frame.shape(ridge([h + 0.02, h - 0.03, h - 0.005, h - 0.035, h + 0.02]), bank)
    for x in np.arange(0.04, 1.0, rng.uniform(0.10, 0.22)):
        if x < 0.3 or x > 0.7 or layout == 1:
            tall = rng.uniform(0.09, 0.17)
            plants.pine(frame.at(x + rng.uniform(-0.03, 0.03), h + 0.02, tall), light, 0.22, tone)
    shore = h + 0.02
    deep: Colour = ((54, 142, 236), (30, 96, 170), (70, 180, 200))[rng.integers(3)]
    _water(setting, shore, deep, rng.uniform(0.25, 0.75))
    _glitter(setting, shore, 0.88)
    grass = light.ground(meadow_green(rng))
    if layout == 0:
        near = rng.uniform(0.88, 0.93)
        frame.shape(ridge([near, near + 0.04, near + 0.05, near + 0.03, near - 0.02]), grass)
        for x in (0.06, 0.18):
            plants.reeds(frame.at(x + rng.uniform(-0.03, 0.03), 1.0, rng.uniform(0.18, 0.26)), light)
        return Ground(shore + 0.05, 0.97, (shore + near) / 2 + 0.02, islets=True)
    if layout == 1:
        bend = rng.uniform(0.66, 0.76)
        frame.shape(smooth([(-0.1, h - 0.03), (0.16, h + 0.03), (0.28, bend), (0.62, 0.90), (1.1, 0.93),
            (1.2, 1.2), (-0.2, 1.2)]), grass)  # fmt: skip
        for x, y, tall in ((0.13, h + 0.14, 0.30), (0.02, h + 0.24, 0.44)):
            plants.pine(frame.at(x, y, tall * rng.uniform(0.85, 1.15)), light, 0.05, tone)
        return Ground(shore + 0.06, 0.97, (shore + 0.90) / 2, islets=True)
    near = min(h + rng.uniform(0.20, 0.27), 0.86)
    frame.shape(ridge([near - 0.02, near + 0.02, near - 0.02, near + 0.02]), light.ground(meadow_green(rng)))
    frame.shape(ridge([near + 0.10, near + 0.15, near + 0.09, near + 0.16, near + 0.12]), grass)
    for x in (0.1, 0.35, 0.62, 0.88):
        _tuft(frame, x + rng.uniform(-0.08, 0.08), rng.uniform(0.93, 1.0), light)
    return Ground(near + 0.06, 0.97, shore + 0.13)


def _sea(frame: Canvas, setting: Setting, rng: np.random.Generator) -> Ground:
    r"""The open sea before a beach, a bay with the beach on one side, or waves as far as the eye can see."""
    light, h, layout = setting.light, setting.horizon, int(rng.integers(3))
    layout = layout if setting.bay or layout != 1 else 0
    deep: Colour = ((18, 112, 206), (28, 156, 190), (16, 66, 140))[rng.integers(3)]
    _water(setting, h, deep, 0.84)
    _glitter(setting, h, 0.80)
    crest = light.vivid((206, 238, 252))
    y, gap = h + 0.05, 0.055
    while y < 0.97:  # rows of crests, larger when nearer
        start = rng.uniform(-0.3, 0.0)
        for x in np.arange(start, 1.1, gap * 5.5):
            arc = [(x + gap * 1.5 * t, y - gap * 0.35 * (1 - t * t)) for t in np.linspace(-1, 1, 7)]
            frame.stroke(arc, crest, gap * 0.24, alpha=150)
        y, gap = y + gap * 1.7, gap * 1.35
    sand = light.ground(mix((255, 234, 182), (222, 176, 120), rng.uniform(0, 1)))
    foam = light.vivid(WHITE)
    if layout == 0:
        edge = rng.uniform(0.82, 0.90)
        heights = [edge + rise + rng.uniform(-0.012, 0.012) for rise in (0.03, 0, 0.03, 0.01, 0.04)]
        frame.shape(ridge([y - 0.03 for y in heights]), foam)
        frame.shape(ridge(heights), sand)
    elif layout == 1:
        bay = np.array([(-0.1, h + 0.02), (0.10, h + 0.06), (0.22, 0.74), (0.60, 0.90), (1.1, 0.95),
            (1.2, 1.2), (-0.2, 1.2)])  # fmt: skip
        frame.shape(smooth(bay + (0.02, -0.025)), foam)
        frame.shape(smooth(bay), sand)
        frame.shape(
            smooth([(-0.1, h - 0.07), (0.10, h - 0.01), (0.08, h + 0.10), (-0.1, h + 0.12)]),
            light.ground((104, 168, 84)),
        )
    else:
        frame.shape(ridge([0.99, 0.94, 0.90, 0.91, 0.94]), light.on((116, 110, 120)))
    return Ground(h + 0.05, 0.97, (h + 0.84) / 2 + 0.03, islets=True)


def _forest(frame: Canvas, setting: Setting, rng: np.random.Generator) -> Ground:
    r"""A path between the pines, a clearing before rows of trees, or a view between two great trunks."""
    light, h, layout, tone = setting.light, setting.horizon, int(rng.integers(3)), rng.uniform(0, 1)
    frame.shape(ridge([h + 0.03, h, h + 0.01, h, h + 0.03]), light.ground(meadow_green(rng), 0.15))
    leafy = rng.random() < 0.35
    for row, (step, haze, low, tall) in enumerate(((0.12, 0.45, 0.02, 0.26), (0.17, 0.22, 0.08, 0.36))):
        for x in np.arange(rng.uniform(-0.05, 0.05), 1.05, step):
            gap = abs(x - 0.5) < (0.13 if row else 0.0) and layout == 0
            height = tall * rng.uniform(0.75, 1.2) * (0.55 + 1.3 * abs(x - 0.5))
            tree = frame.at(x + rng.uniform(-0.02, 0.02), h + low + rng.uniform(-0.01, 0.02), height)
            if not gap:
                plants.pine(tree, light, haze, tone)
    grass = light.ground(meadow_green(rng))
    floor = h + 0.09
    frame.shape(ridge([floor + rng.uniform(-0.015, 0.015) for _ in range(4)]), grass)
    if layout == 0:
        path, x = light.ground((226, 188, 130)), rng.uniform(0.42, 0.58)
        left = [(x - 0.03, floor - 0.01), (x - 0.10, floor + 0.10), (x - 0.10, 0.9), (x - 0.24, 1.05)]
        frame.shape(smooth([*left, (x + 0.20, 1.05), (x + 0.10, 0.9), (x + 0.02, floor + 0.10),
            (x + 0.03, floor - 0.01)]), path)  # fmt: skip
    edges = ((0.05, 0.84, 0.52), (0.95, 0.86, 0.56)) if layout < 2 else ()
    for x, foot, tall in edges:
        kind = frame.at(x + rng.uniform(-0.05, 0.03), foot, tall * rng.uniform(0.85, 1.2))
        plants.round_tree(kind, light, tone) if leafy else plants.pine(kind, light, 0.0, tone)
    if layout == 2:
        bark = light.on(mix((104, 72, 56), (134, 92, 66), tone))
        for x, wide in ((0.04, 0.10), (0.93, 0.12)):
            x += rng.uniform(-0.02, 0.02)
            frame.shape(
                [(x - wide / 2, -0.1), (x + wide / 2, -0.1), (x + wide * 0.7, 0.98), (x - wide * 0.7, 0.98)],
                bark,
            )
            frame.shape(
                [(x, -0.1), (x + wide / 2, -0.1), (x + wide * 0.7, 0.98), (x + wide * 0.1, 0.98)],
                mix(bark, (20, 20, 40), 0.3),
            )
        leaves = light.ground(mix((48, 128, 72), (110, 150, 60), tone))
        for x, y, r in ((0.0, 0.02, 0.20), (0.22, -0.04, 0.13), (0.80, -0.03, 0.14), (1.0, 0.04, 0.20)):
            frame.oval(x, y, r, r * 0.75, leaves)
    return Ground(floor + 0.06, 0.96, 0.9)


def _desert(frame: Canvas, setting: Setting, rng: np.random.Generator) -> Ground:
    r"""Dunes, a plain with table mountains, or one great dune on a side; cacti stand in all of them."""
    light, h, layout = setting.light, setting.horizon, int(rng.integers(3))
    sand: Colour = ((246, 196, 112), (232, 160, 96), (252, 224, 166))[rng.integers(3)]
    pale, deep = mix(sand, (255, 240, 200), 0.4), mix(sand, (176, 92, 60), 0.35)
    if layout == 1:
        rock = light.ground((198, 108, 74), 0.15)
        for x, wide, tall in ((0.20, 0.15, 0.20), (0.72, 0.09, 0.27)):
            x, tall = x + rng.uniform(-0.08, 0.08), tall * rng.uniform(0.8, 1.2)
            frame.shape([(x - wide, h + 0.03), (x - wide * 0.72, h - tall), (x + wide * 0.72, h - tall),
                (x + wide, h + 0.03)], rock)  # fmt: skip
            frame.shape([(x + wide * 0.1, h + 0.03), (x + wide * 0.2, h - tall),
                (x + wide * 0.72, h - tall), (x + wide, h + 0.03)], mix(rock, (80, 30, 60), 0.25))  # fmt: skip
    slopes = ([0.05, -0.03, 0.04, 0.0, 0.05], [0.10, 0.17, 0.09, 0.05, 0.12], [0.30, 0.27, 0.33, 0.38, 0.36])
    for slope, colour, haze in zip(slopes, (pale, sand, deep), (0.15, 0.0, 0.0), strict=True):
        steep = 1.6 if layout == 2 and haze == 0 else 0.5 if layout == 1 else 1.0
        heights = [h + 0.03 + (rise - 0.03) * steep + rng.uniform(-0.012, 0.012) for rise in slope]
        frame.shape(ridge(heights), light.ground(colour, haze))
    if layout == 2:
        frame.shape(
            [(-0.1, h + 0.45), (0.26, h - 0.10), (0.34, h + 0.10), (0.56, h + 0.24), (-0.1, h + 0.6)],
            light.ground(sand),
        )
        frame.shape(smooth([(0.26, h - 0.10), (0.36, h + 0.06), (0.62, h + 0.24), (0.40, h + 0.26),
            (0.30, h + 0.10)]), light.ground(mix(sand, (150, 74, 66), 0.45)))  # fmt: skip
    for x in (rng.uniform(0.03, 0.14), rng.uniform(0.86, 0.97))[: 1 + rng.integers(2)]:
        plants.cactus(frame.at(x, rng.uniform(h + 0.16, 0.9), rng.uniform(0.22, 0.38)), light, rng)
    return Ground(h + 0.17, 0.96, 0.9)


def _meadow(frame: Canvas, setting: Setting, rng: np.random.Generator) -> Ground:
    r"""Rolling slopes with trees, a plain with a path, or a fenced pasture."""
    light, h, layout, tone = setting.light, setting.horizon, int(rng.integers(3)), rng.uniform(0, 1)
    frame.shape(ridge([h + 0.02, h - 0.015, h + 0.02, h, h + 0.02]), light.ground(meadow_green(rng), 0.1))
    tree = plants.round_tree if rng.random() < 0.6 else plants.birch
    spots = (rng.uniform(0.04, 0.20), rng.uniform(0.80, 0.97), rng.uniform(0.3, 0.7))[: rng.integers(1, 4)]
    for i, x in enumerate(spots):
        tree(frame.at(x, h + 0.08, rng.uniform(0.16, 0.34) * (0.6 if i == 2 else 1.0)), light, tone)
    green = meadow_green(rng)
    steep = 0.09 if layout == 0 else 0.02
    frame.shape(ridge([h + 0.08 + rng.uniform(-steep, steep) for _ in range(4)]), light.ground(green))
    front = light.ground(mix(green, (50, 120, 60), rng.uniform(0.2, 0.6)))
    frame.shape(ridge([h + 0.24 + rng.uniform(-steep, steep) for _ in range(4)]), front)
    if layout == 1:
        x = rng.uniform(0.3, 0.7)
        path = [(x - 0.02, h + 0.02), (x - 0.14, h + 0.14), (x - 0.02, h + 0.24), (x - 0.24, 1.05),
            (x + 0.10, 1.05), (x + 0.12, h + 0.26), (x - 0.02, h + 0.14), (x + 0.03, h + 0.02)]  # fmt: skip
        frame.shape(smooth(path), light.ground((232, 204, 146)))
    elif layout == 2:
        wood = light.ground((206, 176, 140))
        y = h + rng.uniform(0.10, 0.15)
        for rail in (0.02, 0.065):
            frame.stroke([(-0.05, y + rail), (1.05, y + rail)], wood, 0.018)
        for x in np.arange(0.06, 1.0, 0.22):
            frame.stroke([(x, y - 0.02), (x, y + 0.11)], wood, 0.028)
    for _ in range(7):
        x, y = rng.uniform(0, 1), rng.uniform(h + 0.27, 1.0)
        if light.snow or rng.random() < 0.4:
            _tuft(frame, x, y, light)
        else:  # small white flowers, which no caption names
            frame.oval(x, y, 0.020, 0.016, light.vivid((255, 252, 240)))
            frame.oval(x, y, 0.008, 0.007, light.vivid((250, 208, 84)))
    return Ground(h + 0.15, 0.96, 0.9)


def _tuft(frame: Canvas, x: float, y: float, light: Light) -> None:
    plants.tuft(frame.at(x, y, 0.045), light.on((70, 142, 66)))


def _water(setting: Setting, shore: float, colour: Colour, depth: float) -> None:
    r"""Reflect what is above the shore in the water below; `depth` in [0, 1] is the water's opacity."""
    image, light = setting.canvas.image, setting.light
    size = image.width
    top = round(shore * size)
    height = min(size - top, top)
    above = image.crop((0, top - height, size, top)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    above = above.resize((size, size - top), Image.Resampling.NEAREST) if height < size - top else above
    lit = light.on(colour)
    water = gradient([(0, mix(lit, light.middle, 0.45)), (1, lit)], size).crop((0, 0, size, size - top))
    image.paste(Image.blend(above, water, depth), (0, top))


def _glitter(setting: Setting, shore: float, end: float) -> None:
    r"""The sun's path on the water: a few bars, wider towards the viewer."""
    if setting.sun is None:
        return
    for i in range(5):
        y = shore + 0.02 + (end - shore) * i / 5
        setting.canvas.oval(
            setting.sun[0], y, 0.045 + 0.022 * i, 0.009 + 0.003 * i, setting.light.sun, alpha=190
        )


_PLACES: dict[str, Callable[[Canvas, Setting, np.random.Generator], Ground]] = {"lake": _lake,
    "sea": _sea, "forest": _forest, "desert": _desert, "meadow": _meadow}  # fmt: skip
