r"""`ldm explore`: one HTML file to play with a real run of the model, and to show to others.

The page needs no network and no server: its script, its style and all pictures are inside (`explore.html`,
`explore.css`, `explore.js` and `controls.js` beside this file are joined here). It shows several paintings:

- the one asked for, and a rival prompt from the same noise, with nearly every step;
- the same prompt with other guidances and other seeds, with a few steps each.

Pictures become WebP sprites, one image for all frames of a painting, and the attention maps another, of grey values:
so a run of 30 steps costs 0.25 MB. Where that is too much (larger pictures, many guidances) they are made smaller and
rougher, until the whole page is below `LIMIT`.

The plan of the page, from an overview to the details, is learned from Lee et al. 2024, "Diffusion Explainer".
"""

import base64
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ldm.errors import LdmError
from ldm.files import atomic_path
from ldm.pipeline import LatentDiffusion
from ldm.trace.recorder import Progress, Recording, record

LIMIT = 1_950_000  # bytes, so that the page can be mailed and opens at once on a phone
GUIDANCES = (1.0, 2.0, 3.0, 5.0, 8.0)
ALL, FEW = 40, 12  # at most so many steps are kept of a painting: of the first two, and of the others
SETTINGS = ((256, 80), (192, 75), (128, 80), (128, 65), (128, 50), (96, 50), (64, 40))  # (longer side, WebP quality)
COLUMNS = 8  # frames in a row of a sprite
MAP_SIDE = 32
START, END = "‹start›", "‹end›"  # the marks around the words; the padding behind the end is counted with it

# What to paint instead, to see what one word changes: the first of these that a prompt has is exchanged.
OPPOSITES = (
    ("dog", "cat"),
    ("rabbit", "bear"),
    ("chien", "chat"),
    ("lapin", "ours"),
    ("sunrise", "night"),
    ("day", "sunset"),
    ("lever", "coucher"),  # du soleil
    ("jour", "nuit"),
    ("lake", "desert"),
    ("forest", "sea"),
)


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
    steps: list[tuple[int, float]]  # (t, alpha_bar) of every step


def explore(
    model: LatentDiffusion,
    prompt: str,
    path: str | os.PathLike[str],
    *,
    versus: str | None = None,
    seed: int = 42,
    steps: int | None = None,
    guidance: float | None = None,
    guidances: Sequence[float] = GUIDANCES,
    seeds: int = 4,
    progress: Progress | None = None,
) -> None:
    """Paint `prompt` in several ways, and write the page about it to `path`, whole or not at all.

    `versus` is the prompt to compare with, from the same noise (left out: one word is exchanged, see `contrast`);
    `seeds` says how many seeds are shown side by side, from `seed` on; `guidance` is that of all paintings but the
    row of `guidances`. What is left out is the model's default. `progress` is handed the steps of each painting, as by
    `generate`. Raises `LdmError` for values that the model cannot work with, and if the page cannot be written.
    """
    guidance = model.config.defaults.guidance if guidance is None else guidance
    rival = contrast(prompt) if versus is None else versus
    options: dict[str, Any] = {"steps": steps, "progress": progress}
    paintings = paint(model, prompt, seed, guidance, batch=seeds, **options)
    rivals = paint(model, rival, seed, guidance, **options)
    others = sorted({float(g) for g in guidances} - {float(guidance)})
    guided = [painting for g in others for painting in paint(model, prompt, seed, g, few=True, **options)]
    page = fitting_page(model, [*paintings, *rivals, *guided], seeds)
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise LdmError(f"cannot write {path}: {error.strerror or error}; give another place") from error


def contrast(prompt: str) -> str:
    """The prompt with one word exchanged for its opposite: "a dog" -> "a cat"; the empty prompt if there is none."""
    words = prompt.split(" ")
    for pair in OPPOSITES:
        for word, opposite in (pair, pair[::-1]):
            if word in words:
                return " ".join(opposite if w == word else w for w in words)
    return ""


def paint(
    model: LatentDiffusion,
    prompt: str,
    seed: int,
    guidance: float,
    *,
    steps: int | None,
    progress: Progress | None,
    batch: int = 1,
    few: bool = False,
) -> list[Painting]:
    """Paint with a recorder beside it: `batch` paintings, of which all but the first keep few steps (`few`: all)."""
    with record(model, prompt) as recording:
        images = model.generate(
            prompt, seed=seed, steps=steps, guidance=guidance, batch=batch, progress=recording.watch(progress)
        )
    paintings = []
    for i, image in enumerate(images):
        kept = spread(len(recording.moments), FEW if few or i else ALL)
        x_t, x0 = recording.pictures("x_t", i, kept[:-1]), recording.pictures("x0", i, kept[:-1])
        sizes = [m.guidance_size[i] for m in recording.moments if m.guidance_size]
        paintings.append(
            Painting(
                prompt,
                seed + i,
                guidance,
                [START, *(shortened(word.text, 30) for word in recording.words), END],
                kept,
                [*x_t, image],
                [*x0, image],
                word_maps(recording, i, kept[:-1]),
                sizes or None,
                [(moment.t, moment.alpha_bar) for moment in recording.moments],
            )
        )
    return paintings


def spread(steps: int, most: int) -> list[int]:
    """At most `most` + 1 of 0 ... `steps`, evenly spread, both ends included."""
    count = min(steps, most)
    return sorted({round(i * steps / count) for i in range(count + 1)})


def shortened(text: str, length: int) -> str:
    """`text`, cut to `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def word_maps(recording: Recording, picture: int, moments: Sequence[int]) -> Float[Tensor, "k n mh mw"]:
    """The attention to the start mark, each word, and all that comes after: they add up to one at every place."""
    rows = []
    for i in moments:
        tokens = recording.moments[i].attention[picture]
        words = [tokens[list(word.positions)].sum(0) for word in recording.words]
        rest = (1 - tokens[0] - sum(words, torch.zeros(()))).clamp(min=0)
        rows.append(torch.stack([tokens[0], *words, rest]))
    maps = torch.stack(rows)
    shrink = min(1.0, MAP_SIDE / max(maps.shape[-2:]))
    height, width = (max(1, round(shrink * side)) for side in maps.shape[-2:])
    return F.interpolate(maps, size=(height, width), mode="area")


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
        "words": painting.words,
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
        sheet.paste(image.resize(thumb, Image.Resampling.LANCZOS), (i % COLUMNS * width, i // COLUMNS * height))
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
