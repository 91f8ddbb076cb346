r"""The page of `ldm explore`: recorded runs as one HTML file.

The page needs no network and no server: it contains its script, its style and all images (made from `explore.html`,
`explore.css`, `explore.js` and `controls.js` beside this file, and `drawing.js`, which the playground shares).

All frames of a run are one WebP image, a sprite, and its attention maps another in grey, so a run of 30 steps takes a
quarter of a megabyte. If all runs together exceed `LIMIT` (large images, many guidance scales), resolution and quality
are reduced until they fit.
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

LIMIT = 1_950_000  # bytes: small enough to send by mail and to open at once on a phone
# (longer side of a frame, WebP quality), the best first.
SETTINGS = ((256, 80), (192, 75), (128, 80), (128, 65), (128, 50), (96, 50), (64, 40))
COLUMNS = 8  # frames in a row of a sprite


@dataclass(frozen=True)
class PageRun:
    """One run of the model, as the page shows it. The last of the k + 1 frames is the finished image."""

    prompt: str
    seed: int
    guidance: float
    words: list[str]  # with the marks for the tokens before and after them
    kept: list[int]  # for each frame, the number of steps before it; for the last, all
    x_t: list[Image.Image]
    x0: list[Image.Image]
    maps: Float[Tensor, "k n mh mw"]  # the attention of each position to each word
    influence: list[float] | None  # |cond - uncond| / |uncond| at every step; None without guidance
    steps: list[tuple[Time, float]]  # (t, alpha_bar) of every step


def make_page(model: LatentDiffusion, runs: Sequence[PageRun], seeds: int) -> str:
    """The page in the best quality that keeps it below `LIMIT`. Raises `LdmError` if none does."""
    width, height = runs[0].x0[0].size
    tried, size = set(), 0
    for side, quality in SETTINGS:
        shrink = min(1.0, side / max(width, height))
        thumb = (max(1, round(shrink * width)), max(1, round(shrink * height)))
        if (thumb, quality) in tried:
            continue
        tried.add((thumb, quality))
        page = fill_template(page_data(model, runs, seeds, thumb, quality))
        size = len(page.encode())
        if size <= LIMIT:
            return page
    raise LdmError(
        f"{len(runs)} runs make a page of {size / 1e6:.1f} MB; expected at most {LIMIT / 1e6:.2f} MB: "
        "ask for fewer guidances or seeds"
    )


def page_data(
    model: LatentDiffusion, runs: Sequence[PageRun], seeds: int, thumb: tuple[int, int], quality: int
) -> dict[str, Any]:
    """What the page's script reads. `runs`: the seeds, the main one first; the contrasting prompt; the guidances."""
    main, versus = runs[0], seeds
    alpha_bar = model.alpha_bar().double().tolist()
    width, height = main.x0[0].size
    guided = [0, *range(versus + 1, len(runs))]
    grid = [*range(0, len(alpha_bar), max(1, len(alpha_bar) // 100)), len(alpha_bar) - 1]
    return {
        "model": truncated(model.config.name, 40),
        "sampler": model.config.defaults.sampler,
        "levels": len(alpha_bar),
        "curve": [[t, round(alpha_bar[t], 5)] for t in sorted(set(grid))],
        "steps": [{"t": t, "alpha_bar": round(level, 5)} for t, level in main.steps],
        "latent": [model.config.vae.latent_channels, height // model.vae.factor, width // model.vae.factor],
        "size": [width, height],
        "thumb": thumb,
        "columns": COLUMNS,
        "runs": [run_data(run, thumb, quality) for run in runs],
        "seeds": list(range(seeds)),
        "versus": versus,
        "guidances": sorted(guided, key=lambda i: runs[i].guidance),
    }


def run_data(run: PageRun, thumb: tuple[int, int], quality: int) -> dict[str, Any]:
    """One run for the page. Noisy images get a lower quality, where it does not show."""
    return {
        "prompt": truncated(run.prompt, 600),
        "seed": run.seed,
        "guidance": run.guidance,
        "words": [truncated(word, 30) for word in run.words],
        "kept": run.kept,
        "x_t": sprite(run.x_t, thumb, quality - 15),
        "x0": sprite(run.x0, thumb, quality),
        "maps": maps_data(run.maps),
        "influence": run.influence and [round(size, 4) for size in run.influence],
    }


def sprite(images: Sequence[Image.Image], thumb: tuple[int, int], quality: int) -> str:
    """Images in rows of `COLUMNS`, each resized to `thumb` (width, height), as the data URL of a WebP image."""
    width, height = thumb
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (min(len(images), COLUMNS) * width, rows * height))
    for i, image in enumerate(images):
        sheet.paste(
            image.resize(thumb, Image.Resampling.LANCZOS), (i % COLUMNS * width, i // COLUMNS * height)
        )
    return webp(sheet, quality)


def maps_data(maps: Float[Tensor, "k n mh mw"]) -> dict[str, Any]:
    """The maps as one grey image: a row per step, a column per word, scaled between each word's extremes."""
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
    """An image as a data URL."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=5)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def fill_template(data: dict[str, Any]) -> str:
    """Insert style, script and data into the page. The data cannot end their element or contain a lone surrogate."""
    folder = Path(__file__).parent
    html, css, *scripts = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("explore.html", "explore.css", "../drawing.js", "explore.js", "controls.js")
    )
    page = html.replace("/*STYLE*/", css).replace("/*SCRIPT*/", "\n".join(scripts))
    # ASCII without "<": whatever the prompt is, "</script>" does not occur, nor does a lone surrogate.
    return page.replace("/*DATA*/", json.dumps(data, separators=(",", ":")).replace("<", r"\u003c"))


def truncated(text: str, length: int) -> str:
    """`text`, truncated to `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"
