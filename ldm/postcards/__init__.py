r"""Postcards: a small captioned world, drawn here, on which the tiny model is trained.

Reading order: `attributes` (what there is), `captions` (saying it, in English and in French), `draw`
(painting it), `sheet` (many at once). Needs numpy and Pillow only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ldm.postcards.attributes import SCENES, Landscape, Portrait, Scene, held_out, sample_scene
from ldm.postcards.captions import DEMO_PROMPTS, caption
from ldm.postcards.draw import draw
from ldm.postcards.sheet import contact_sheet, grid

__all__ = [
    "DEMO_PROMPTS",
    "SCENES",
    "Landscape",
    "Portrait",
    "Postcard",
    "Scene",
    "caption",
    "contact_sheet",
    "draw",
    "grid",
    "held_out",
    "postcard",
    "sample_scene",
]


def postcard(
    index: int, seed: int = 0, size: int = 64, split: str = "train", language: str | None = None
) -> Postcard:
    r"""Postcard number `index` of the endless series `seed`: the same scene and caption at every size.

    `split` is "train" or "held_out"; `language` is "en", "fr" or None (either).
    """
    rng = np.random.default_rng([seed, index])
    scene = sample_scene(rng, split)
    image = draw(scene, rng, size)  # before the caption, so that the picture does not depend on its language
    return Postcard(scene, image, caption(scene, rng, language))


@dataclass(frozen=True)
class Postcard:
    r"""A scene, its picture (RGB, square) and one caption of it."""

    scene: Scene
    image: Image.Image
    caption: str
