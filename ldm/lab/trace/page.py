r"""Paintings, with what was noted of them, become one HTML file.

The page needs no network and no server: its script, its style and all pictures are inside (`explore.html`,
`explore.css`, `explore.js` and `controls.js` beside this file are joined here).

All frames of a painting are one WebP image, a sprite, and its attention maps another, of grey values; so a run of 30
steps costs a quarter of a megabyte. Where all paintings together are too much (larger pictures, many guidances) they
are made smaller and rougher, until the page is below `LIMIT`.
"""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ldm.diffusion.level import Time
from ldm.errors import LdmError
from ldm.pipeline import LatentDiffusion

LIMIT = 1_950_000  # bytes, so that the page can be mailed and opens at once on a phone
# (longer side of a frame, WebP quality), the best first.
SETTINGS = ((256, 80), (192, 75), (128, 80), (128, 65), (128, 50), (96, 50), (64, 40))
COLUMNS = 8  # frames in a row of a sprite


@dataclass(frozen=True)
class Painting:
    """One run of the model, as the page keeps it. The last of the k + 1 kept pictures is the finished one."""

    prompt: str
    seed: int
    guidance: float
    words: list[str]  # with the marks before and after them
    kept: list[int]  # for each frame, how many steps were done before it; the last: all of them
    x_t: list[Image.Image]
    x0: list[Image.Image]
    maps: Float[Tensor, "k n mh mw"]  # each place's attention to each of the words
    influence: list[float] | None  # |cond - uncond| / |uncond| at every step; None without guidance
    steps: list[tuple[Time, float]]  # (t, alpha_bar) of every step


def fitting_page(model: LatentDiffusion, paintings: Sequence[Painting], seeds: int) -> str:
    """The page with the best pictures that keep it below `LIMIT`. Raises `LdmError` if none do."""
    width, height = paintings[0].x0[0].size
    tried, size = set(), 0
    for side, quality in SETTINGS:
        shrink = min(1.0, side / max(width, height))
        thumb = (max(1, round(shrink * width)), max(1, round(shrink * height)))
        if (thumb, quality) in tried:
            continue
        tried.add((thumb, quality))
        page = fill_template(page_data(model, paintings, seeds, thumb, quality))
        size = len(page.encode())
        if size <= LIMIT:
            return page
    raise LdmError(
        f"{len(paintings)} paintings make a page of {size / 1e6:.1f} MB, and {LIMIT / 1e6:.2f} is the limit; "
        "ask for fewer guidances or seeds"
    )


def page_data(
    model: LatentDiffusion, paintings: Sequence[Painting], seeds: int, thumb: tuple[int, int], quality: int
) -> dict[str, Any]:
    """What the page's script reads. `paintings`: the seeds (the first is the main one), the rival, the guidances."""
    main, versus = paintings[0], seeds
    alpha_bar = model.alpha_bar().double().tolist()
    width, height = main.x0[0].size
    guided = [0, *range(versus + 1, len(paintings))]
    grid = [*range(0, len(alpha_bar), max(1, len(alpha_bar) // 100)), len(alpha_bar) - 1]
    return {
        "model": shortened(model.config.name, 40),
        "sampler": model.config.defaults.sampler,
        "levels": len(alpha_bar),
        "curve": [[t, round(alpha_bar[t], 5)] for t in sorted(set(grid))],
        "steps": [{"t": t, "alpha_bar": round(level, 5)} for t, level in main.steps],
        "latent": [model.config.vae.latent_channels, height // model.vae.factor, width // model.vae.factor],
        "size": [width, height],
        "thumb": thumb,
        "columns": COLUMNS,
        "runs": [run_data(painting, thumb, quality) for painting in paintings],
        "seeds": list(range(seeds)),
        "versus": versus,
        "guidances": sorted(guided, key=lambda i: paintings[i].guidance),
    }


def run_data(painting: Painting, thumb: tuple[int, int], quality: int) -> dict[str, Any]:
    """One painting for the page. Noise may be kept more roughly than pictures: nobody misses a grain of it."""
    return {
        "prompt": shortened(painting.prompt, 600),
        "seed": painting.seed,
        "guidance": painting.guidance,
        "words": [shortened(word, 30) for word in painting.words],
        "kept": painting.kept,
        "x_t": sprite(painting.x_t, thumb, quality - 15),
        "x0": sprite(painting.x0, thumb, quality),
        "maps": maps_data(painting.maps),
        "influence": painting.influence and [round(size, 4) for size in painting.influence],
    }


def sprite(images: Sequence[Image.Image], thumb: tuple[int, int], quality: int) -> str:
    """Pictures in rows of `COLUMNS`, each scaled to `thumb` (width, height), as the address of a WebP image."""
    width, height = thumb
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (min(len(images), COLUMNS) * width, rows * height))
    for i, image in enumerate(images):
        sheet.paste(
            image.resize(thumb, Image.Resampling.LANCZOS), (i % COLUMNS * width, i // COLUMNS * height)
        )
    return webp(sheet, quality)


def maps_data(maps: Float[Tensor, "k n mh mw"]) -> dict[str, Any]:
    """The maps as one grey picture, a row a moment, a column a word; black and white are each word's extremes."""
    low, high = maps.amin((0, 2, 3)), maps.amax((0, 2, 3))
    span = (high - low).clamp(min=1e-12)[:, None, None]
    grey = ((maps - low[:, None, None]) / span * 255).round().to(torch.uint8)
    sheet = Image.fromarray(np.asarray(rearrange(grey, "k n h w -> (k h) (n w)"))).convert("RGB")
    return {
        "image": webp(sheet, 90),
        "width": maps.shape[-1],
        "height": maps.shape[-2],
        "low": [round(value, 5) for value in low.tolist()],
        "high": [round(value, 5) for value in high.tolist()],
    }


def webp(image: Image.Image, quality: int) -> str:
    """A picture as a `data:` address."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=5)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def fill_template(data: dict[str, Any]) -> str:
    """Join the page's parts. The data come last, and can neither end their element nor hold half a character."""
    folder = Path(__file__).parent
    html, css, js, controls = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("explore.html", "explore.css", "explore.js", "controls.js")
    )
    page = html.replace("/*STYLE*/", css).replace("/*SCRIPT*/", js + "\n" + controls)
    # ASCII alone, and no "<": whatever the prompt is, "</script>" does not occur, nor does a lone surrogate.
    return page.replace("/*DATA*/", json.dumps(data, separators=(",", ":")).replace("<", r"\u003c"))


def shortened(text: str, length: int) -> str:
    """`text`, cut to `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"
