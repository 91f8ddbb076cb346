r"""`ldm explore`: generate a prompt in several ways and make an interactive page of it.

- The prompt, and a contrasting prompt from the same noise, with nearly every step;
- the same prompt with other guidance scales and other seeds, with a few steps each.

The page goes from an overview to the details, as in Lee et al. 2024, "Diffusion Explainer: Visual Explanation for
Text-to-image Stable Diffusion". `ldm/lab/trace/page.py` writes it.
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
from ldm.lab.trace.film import evenly_spaced
from ldm.lab.trace.page import PageRun, make_page
from ldm.lab.trace.recorder import Recording, record
from ldm.pipeline import LatentDiffusion, Progress

GUIDANCES = (1.0, 2.0, 4.0, 6.0, 8.0)
ALL, FEW = 40, 12  # the most steps to keep: of the first run and the contrasting prompt, and of the others
MAP_SIDE = 32
START, END = "‹start›", "‹end›"  # the tokens around the words; ‹end› includes the padding after it

EXAMPLE = "a dog with glasses"  # the contrasting prompt of an empty one
# The first of these words that a prompt has is replaced by the other of its pair.
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
    """Generate `prompt` in several ways and write a page about it to `path`, whole or not at all.

    `versus` is the contrasting prompt, generated from the same noise (default: `contrasting_prompt`); `seeds` is how
    many seeds are shown side by side, from `seed` on (-1 draws one at random); `guidance` is for all runs but the row
    of `guidances`. Options left out take the model's defaults. `progress` receives the steps of each run, as in
    `generate`. Raises `LdmError` for values that the model cannot work with, or if the page cannot be written.
    """
    guidance = model.config.defaults.guidance if guidance is None else guidance
    seed = pick_seed(seed, seeds)
    versus = contrasting_prompt(prompt) if versus is None else versus
    others = sorted({float(g) for g in guidances} - {float(guidance)})
    options: dict[str, Any] = {"steps": steps, "progress": progress}
    try:
        with atomic_path(path) as temporary:  # opened first, so that an unwritable path fails at once
            runs = record_runs(model, prompt, seed, guidance, batch=seeds, **options)
            runs += record_runs(model, versus, seed, guidance, **options)
            for other in others:
                runs += record_runs(model, prompt, seed, other, few=True, **options)
            temporary.write_text(make_page(model, runs, seeds), encoding="utf-8")
    except OSError as error:
        raise LdmError(f"cannot write {path}: {error.strerror or error}; give another place") from error


def contrasting_prompt(prompt: str) -> str:
    """The prompt with one word replaced by its opposite: "a dog" -> "a cat"; the empty prompt if it has none."""
    if not prompt.strip():
        return EXAMPLE
    words = prompt.split(" ")
    for pair in OPPOSITES:
        for word, opposite in (pair, pair[::-1]):
            if word in words:
                return " ".join(opposite if w == word else w for w in words)
    return ""


def record_runs(
    model: LatentDiffusion,
    prompt: str,
    seed: int,
    guidance: float,
    *,
    steps: int | None,
    progress: Progress | None,
    batch: int = 1,
    few: bool = False,
) -> list[PageRun]:
    """Generate and record `batch` images; all but the first keep only `FEW` steps, with `few` the first as well."""
    with record(model, prompt) as recording:
        images = model.generate(
            prompt, seed=seed, steps=steps, guidance=guidance, batch=batch, progress=recording.watch(progress)
        )
    runs = []
    for i, image in enumerate(images):
        kept = evenly_spaced(len(recording.steps) + 1, (FEW if few or i else ALL) + 1)
        x_t, x0 = recording.decode("x_t", i, kept[:-1]), recording.decode("x0", i, kept[:-1])
        sizes = [step.guidance_size[i] for step in recording.steps if step.guidance_size]
        runs.append(
            PageRun(
                prompt,
                seed + i,
                guidance,
                [START, *(word.text for word in recording.words), END],
                kept,
                [*x_t, image],
                [*x0, image],
                word_maps(recording, i, kept[:-1]),
                # A prediction of zero has no direction.
                [size if math.isfinite(size) else 0.0 for size in sizes] or None,
                [(step.t, step.alpha_bar) for step in recording.steps],
            )
        )
    return runs


def word_maps(recording: Recording, index: int, steps: Sequence[int]) -> Float[Tensor, "k n mh mw"]:
    """The attention to the start token, to each word, and to everything after; they sum to one at every position."""
    rows = []
    for i in steps:
        tokens = recording.steps[i].attention[index]
        words = [tokens[list(word.positions)].sum(0) for word in recording.words]
        rest = (1 - tokens[0] - sum(words, tokens.new_zeros(()))).clamp(min=0)
        rows.append(torch.stack([tokens[0], *words, rest]))
    maps = torch.stack(rows)
    shrink = min(1.0, MAP_SIDE / max(maps.shape[-2:]))
    height, width = (max(1, round(shrink * side)) for side in maps.shape[-2:])
    return F.interpolate(maps, size=(height, width), mode="area")
