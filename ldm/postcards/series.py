r"""Numbered postcards: picture number `index` of series `seed`, the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ldm.postcards.attributes import Scene, sample_scene
from ldm.postcards.captions import caption
from ldm.postcards.draw import draw


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
