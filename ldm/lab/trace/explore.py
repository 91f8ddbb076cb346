r"""`ldm explore`: paint a prompt in several ways, and make a page to play with of it, to show to others.

- The prompt itself, and a rival prompt from the same noise, are kept with nearly every step;
- the same prompt with other guidances and from other seeds, with a few steps each.

The plan of the page, from an overview to the details, is learned from Lee et al. 2024, "Diffusion Explainer: Visual
Explanation for Text-to-image Stable Diffusion". What is in the file, and how: `ldm/lab/trace/page.py`.
"""

import math
import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ldm.arguments import checked
from ldm.diffusion.noise import pick_seed
from ldm.errors import LdmError
from ldm.files.read_write import atomic_path
from ldm.lab.trace.page import Painting, fitting_page
from ldm.lab.trace.recorder import Progress, Recording, record
from ldm.pipeline import LatentDiffusion

GUIDANCES = (1.0, 2.0, 4.0, 6.0, 8.0)
ALL, FEW = 40, 12  # at most so many steps are kept: of the first painting and its rival, and of the others
MAP_SIDE = 32
START, END = "‹start›", "‹end›"  # the marks around the words; the padding behind the end is counted with it

EXAMPLE = "a dog with glasses"  # what no words at all are compared with
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


@checked
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
    `seeds` says how many seeds are shown side by side, from `seed` on (-1: one drawn at random); `guidance` is that of
    all paintings but the row of `guidances`. What is left out is the model's default. `progress` is handed the steps of
    each painting, as by `generate`. Raises `LdmError` for values that the model cannot work with, and if the page
    cannot be written.
    """
    guidance = model.config.defaults.guidance if guidance is None else guidance
    seed = pick_seed(seed, seeds)
    rival = contrast(prompt) if versus is None else versus
    others = sorted({float(g) for g in guidances} - {float(guidance)})
    options: dict[str, Any] = {"steps": steps, "progress": progress}
    try:
        with atomic_path(
            path
        ) as temporary:  # opened first: nobody should paint for a place that cannot be written
            paintings = paint(model, prompt, seed, guidance, batch=seeds, **options)
            paintings += paint(model, rival, seed, guidance, **options)
            for other in others:
                paintings += paint(model, prompt, seed, other, few=True, **options)
            temporary.write_text(fitting_page(model, paintings, seeds), encoding="utf-8")
    except OSError as error:
        raise LdmError(f"cannot write {path}: {error.strerror or error}; give another place") from error


def contrast(prompt: str) -> str:
    """The prompt with one word exchanged for its opposite: "a dog" -> "a cat"; if it has none, the empty prompt."""
    if not prompt.strip():
        return EXAMPLE
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
        sizes = [
            size if math.isfinite(size) else 0.0 for size in sizes
        ]  # a prediction of zero has no direction
        paintings.append(
            Painting(
                prompt,
                seed + i,
                guidance,
                [START, *(word.text for word in recording.words), END],
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


def word_maps(recording: Recording, picture: int, moments: Sequence[int]) -> Float[Tensor, "k n mh mw"]:
    """The attention to the start mark, each word, and all that comes after: they add up to one at every place."""
    rows = []
    for i in moments:
        tokens = recording.moments[i].attention[picture]
        words = [tokens[list(word.positions)].sum(0) for word in recording.words]
        rest = (1 - tokens[0] - sum(words, tokens.new_zeros(()))).clamp(min=0)
        rows.append(torch.stack([tokens[0], *words, rest]))
    maps = torch.stack(rows)
    shrink = min(1.0, MAP_SIDE / max(maps.shape[-2:]))
    height, width = (max(1, round(shrink * side)) for side in maps.shape[-2:])
    return F.interpolate(maps, size=(height, width), mode="area")
