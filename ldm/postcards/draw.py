r"""Drawing: render a scene at three times its size, then reduce it, which smooths every edge."""

from __future__ import annotations

from math import ceil

import numpy as np
from PIL import Image

from ldm.errors import LdmError
from ldm.postcards.animals import animal
from ldm.postcards.canvas import Box, Canvas, canvas_on
from ldm.postcards.colour import FUR, INK, PAINT, WHITE, Light, light_at, mix, rgb
from ldm.postcards.places import HORIZONS, Ground, Setting, place
from ldm.postcards.relief import relief
from ldm.postcards.scene import Animal, Scene
from ldm.postcards.sky import sky
from ldm.postcards.styles import apply_style
from ldm.postcards.things import thing
from ldm.postcards.weather import falling, fog_bank

SMALLEST = 16
FLAWS = ("mottled wall", "odd eyes")  # errors that generated images may show but postcards never do

_OVERSAMPLING = 3
_MIN_RENDER_SIZE = 192
_SLOT_X = (0.20, 0.50, 0.80)
_HEIGHTS = {"waterfall": 0.40, "boat": 0.34, "house": 0.30, "balloon": 0.34, "flower": 0.34}
# The smallest and largest size of an animal before a wall, by its pose and by how many there are, and how far to the
# side it is in an outer slot.
_ON_A_WALL = {
    ("portrait", 1): (0.74, 1.12, 0.17),
    ("portrait", 2): (0.60, 0.70, 0.24),
    ("sitting", 1): (0.60, 0.82, 0.20),
    ("sitting", 2): (0.54, 0.66, 0.24),
    ("standing", 1): (0.54, 0.72, 0.0),
}
_BACK_TO_FRONT = ("balloon", "waterfall", "house", "boat", "flower")


def draw(scene: Scene, rng: np.random.Generator, size: int = 64, flaw: str = "") -> Image.Image:
    r"""Draw `scene` as an RGB image of `size` x `size` pixels.

    The same generator state gives the same drawing at every size: all random quantities are in units of the image
    width. `flaw` is one of `FLAWS`, to teach a judge what is wrong. Raises LdmError if `size` is below 16, where
    nothing is recognisable, or for an unknown flaw.
    """
    return _drawn(scene, rng, size, flaw, None)


def draw_with_boxes(scene: Scene, rng: np.random.Generator, size: int = 64) -> tuple[Image.Image, list[Box]]:
    r"""The same drawing, and where each thing is that a word names; later things may cover part of it."""
    boxes: list[Box] = []
    return _drawn(scene, rng, size, "", boxes), boxes


def _drawn(
    scene: Scene, rng: np.random.Generator, size: int, flaw: str, boxes: list[Box] | None
) -> Image.Image:
    if size < SMALLEST:
        raise LdmError(f"postcard size {size}: expected at least {SMALLEST} pixels")
    if flaw not in ("", *FLAWS):
        raise LdmError(f"flaw {flaw!r}: expected one of {', '.join(FLAWS)}")
    factor = max(_OVERSAMPLING, ceil(_MIN_RENDER_SIZE / size))
    seed = int(rng.integers(2**63))
    render = _landscape if scene.place else _before_a_wall
    image = render(scene, seed, size * factor, flaw, boxes)
    return apply_style(image, scene.style, factor, _part(seed, 99))


def _part(seed: int, number: int) -> np.random.Generator:
    r"""The generator of one part of a drawing, so that leaving a part out does not change the others."""
    return np.random.default_rng([seed, number])


def _landscape(scene: Scene, seed: int, size: int, flaw: str, boxes: list[Box] | None) -> Image.Image:
    rng = _part(seed, 0)
    horizon = rng.uniform(*HORIZONS[scene.place])
    light = light_at(scene.time, scene.weather, rng.uniform(0, 1))
    canvas, sun = sky(scene, light, horizon, size, rng, boxes)
    relief(scene, canvas, light, horizon, sun, _part(seed, 1))
    if scene.weather == "fog":
        fog_bank(canvas, light, horizon - 0.06, 0.30, rng)
    setting = Setting(canvas, light, horizon, sun if scene.sun_is_visible else None)
    ground = place(scene, setting, _part(seed, 2))
    if scene.weather == "fog":
        fog_bank(canvas, light, horizon + 0.08, 0.22, rng)
    _things(scene, canvas, light, horizon, ground, seed)
    for what in scene.animals:
        _animal_outdoors(scene, what, canvas, light, ground, _part(seed, 30 + what.slot), flaw)
    if scene.weather in ("rain", "snow"):
        falling(canvas, scene.weather, light, _part(seed, 3))
    return canvas.image


def _things(scene: Scene, canvas: Canvas, light: Light, horizon: float, ground: Ground, seed: int) -> None:
    r"""The farthest things first."""
    for what in sorted(scene.things, key=lambda thing: _BACK_TO_FRONT.index(thing.kind)):
        rng = _part(seed, 10 + what.slot + 3 * (what.kind == "balloon"))
        alike = sum(other.kind == what.kind for other in scene.things)
        tall = _HEIGHTS[what.kind] * rng.uniform(0.88, 1.12) * (1.12, 0.94, 0.86)[alike - 1]
        x, facing = _SLOT_X[what.slot] + rng.uniform(-0.05, 0.05), 1 if rng.random() < 0.5 else -1
        y = {"balloon": horizon * rng.uniform(0.80, 1.0), "waterfall": ground.far + 0.08,
            "house": ground.far + rng.uniform(0, 0.03), "boat": ground.water + rng.uniform(-0.03, 0.04),
            "flower": ground.near + rng.uniform(-0.04, 0.02)}[what.kind]  # fmt: skip
        if what.kind == "balloon":
            y = max(y, 0.30)
            tall = min(tall, y - 0.02)
        elif what.kind == "waterfall":  # its cliff goes on towards the edge of the image
            facing = 1 if x < 0.5 else -1
        elif what.kind in ("boat", "house"):
            x = min(max(x, 0.02 + tall / 2), 0.98 - tall / 2)
        with canvas.marked(what.kind):
            if what.kind == "house" and ground.islets:
                canvas.oval(x, y + 0.01, tall * 0.85, 0.035, light.ground((104, 168, 88)))
            thing(what.kind, what.colour, canvas.at(x, y, tall, facing=facing), light, rng)


def _animal_outdoors(
    scene: Scene,
    what: Animal,
    canvas: Canvas,
    light: Light,
    ground: Ground,
    rng: np.random.Generator,
    flaw: str,
) -> None:
    alone = len(scene.animals) + len(scene.things) == 1
    tall, facing = rng.uniform(0.42, 0.54) * (1.1 if alone else 0.95), 1 if rng.random() < 0.5 else -1
    margin = (0.50 if what.pose == "standing" else 0.42) * tall
    x = min(max(_SLOT_X[what.slot] + rng.uniform(-0.04, 0.04), margin), 1 - margin)
    with canvas.marked(what.kind):
        frame = canvas.at(x, ground.near + rng.uniform(-0.02, 0.02), tall, facing=facing)
        animal(what, FUR[what.fur], frame, light, rng, flaw == "odd eyes")


def _before_a_wall(scene: Scene, seed: int, size: int, flaw: str, boxes: list[Box] | None) -> Image.Image:
    rng = _part(seed, 0)
    shade = rng.uniform(-0.18, 0.22)  # any darker, orange would be brown; any lighter, red would be pink
    wall = mix(PAINT[scene.wall], WHITE if shade > 0 else INK, abs(shade))
    canvas = canvas_on(Image.new("RGB", (size, size), rgb(wall)), boxes)
    if flaw == "mottled wall":
        _mottle(canvas, rng)
    for what in scene.animals:
        rng = _part(seed, 30 + what.slot)
        facing = 1 if rng.random() < 0.5 else -1
        small, large, aside = _ON_A_WALL[what.pose, len(scene.animals)]
        x = 0.5 + (what.slot - 1) * aside + rng.uniform(-0.03, 0.03)
        y = rng.uniform(0.90, 0.96)
        if what.pose == "portrait":  # what rises above the head needs room
            hat = "hat" in {garment.kind for garment in what.wears}
            y = rng.uniform(0.47, 0.58) + 0.10 * (what.kind == "rabbit") + 0.06 * hat + 0.08 * (small < 0.7)
        with canvas.marked(what.kind):
            frame = canvas.at(x, y, rng.uniform(small, large), facing=facing)
            animal(what, FUR[what.fur], frame, None, rng, flaw == "odd eyes")
    return canvas.image


def _mottle(canvas: Canvas, rng: np.random.Generator) -> None:
    r"""Stains on the wall, lighter or darker."""
    for _ in range(rng.integers(6, 14)):
        x, y, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.06, 0.20)
        tone = WHITE if rng.random() < 0.5 else INK
        canvas.oval(x, y, r, r * rng.uniform(0.6, 1.2), tone, alpha=int(rng.integers(24, 64)))
