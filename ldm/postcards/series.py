r"""Numbered postcards: image number `index` of series `seed` is the same on every machine."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ldm.errors import LdmError
from ldm.files.read_write import atomic_path
from ldm.postcards.captions import caption
from ldm.postcards.draw import draw
from ldm.postcards.sampling import sample_scene
from ldm.postcards.scene import SUBJECTS, Scene


def postcard(
    index: int,
    seed: int = 0,
    size: int = 64,
    split: str = "train",
    language: str | None = None,
    subjects: Collection[str] = SUBJECTS,
) -> Postcard:
    r"""Postcard number `index` of the endless series `seed`: its scene and caption do not depend on `size`.

    `split` is "train" or "held_out"; `language` is "en", "fr" or None (either); `subjects` are those of
    a smaller world. Raises LdmError for an unknown split or subject.
    """
    rng = np.random.default_rng([seed, index])
    scene = sample_scene(rng, split, subjects)
    image = draw(scene, rng, size)  # before the caption, so that the image does not depend on the language
    return Postcard(scene, image, caption(scene, rng, language))


def export(folder: Path, count: int, size: int = 64) -> None:
    r"""Write the first `count` postcards of series 0 to `folder`: 00000.png, ..., and their captions.

    The captions go to metadata.jsonl, one object with `file_name` and `text` per line, as in an image folder on the
    Hugging Face hub. Raises LdmError for a count below 1.
    """
    if count < 1:
        raise LdmError(f"{count} postcards; expected at least 1")
    lines = []
    for i in range(count):
        card = postcard(i, size=size)
        with atomic_path(folder / f"{i:05d}.png") as temporary:
            card.image.save(temporary, format="PNG")
        lines.append(json.dumps({"file_name": f"{i:05d}.png", "text": card.caption}, ensure_ascii=False))
    with atomic_path(folder / "metadata.jsonl") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Postcard:
    r"""A scene, its image (RGB, square) and one caption."""

    scene: Scene
    image: Image.Image
    caption: str
