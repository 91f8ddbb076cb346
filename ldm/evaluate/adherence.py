r"""Adherence: does the model paint what it is asked?

A picture is right when *every* attribute of its prompt is, and nothing stands there twice. Prompts are full captions,
which say what is there and, by silence, what is not; every seed counts.

How it can fool you: the judge errs too (its own accuracy is printed beside), in both directions; and prompts that we
drew are easier than prompts that you think of. Shuffled prompts give the floor: what a model reaches that paints
lovely pictures and does not listen.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldm.evaluate.judge import Judge, faults
from ldm.pipeline import LatentDiffusion
from ldm.postcards import Scene, caption, sample_scene, withheld_caption
from ldm.train.loop import mixed_precision

SERIES = 900  # of the prompts: no drawing and no caption of any training comes from it
BATCH = 32


@dataclass(frozen=True)
class Ask:
    r"""A prompt, and the scene that it describes in full."""

    prompt: str
    scene: Scene


@dataclass(frozen=True)
class Painted:
    r"""What was asked for, what was painted (8 bits a colour, as in the PNG), and what the judge finds wrong with it."""

    ask: Ask
    seed: int
    pixels: Float[Tensor, "3 h w"]
    faults: dict[str, str]


def asks(name: str, count: int) -> list[Ask]:
    r"""The first `count` prompts of a set: "seen", "held-out", "french" or "wordings" (see `SETS`)."""
    split, language = SETS[name]
    found: list[Ask] = []
    index = 0
    while len(found) < count:
        rng = np.random.default_rng([SERIES, index])
        scene = sample_scene(rng, split)
        wording = withheld_caption(scene, rng) if name == "wordings" else caption(scene, rng, language, partial=False)
        if wording is not None:  # not every scene has a wording that training withheld from it
            found.append(Ask(wording, scene))
        index += 1
    return found


# Each set with its split of the scenes and its language.
SETS: dict[str, tuple[str, str | None]] = {
    "seen": ("train", "en"),
    "held-out": ("held_out", "en"),
    "french": ("train", "fr"),
    "wordings": ("train", None),
}


@torch.no_grad()
def paint(
    model: LatentDiffusion, prompts: list[str], seeds: Iterable[int] | None = None, batch: int = BATCH
) -> Iterator[Float[Tensor, "b 3 h w"]]:
    r"""Paint each prompt with the model's defaults, a batch of different prompts at a time, and yield the batches.

    `seeds` are 0, 1, 2, ... if not given. Values in [-1, 1], rounded to 8 bits as in a PNG.
    """
    defaults = model.config.defaults
    seeds = list(range(len(prompts)) if seeds is None else seeds)
    for i in range(0, len(prompts), batch):
        some = prompts[i : i + batch]
        noise = model.noise(seeds[i : i + batch], (defaults.size, defaults.size))
        with mixed_precision():
            cond, uncond = (model.encode_text(texts).float() for texts in (some, [""] * len(some)))
            denoise = in_float(model.denoiser(cond, uncond, defaults.guidance))
            latent = noise()
            for step in model.sample(latent, denoise, noise, defaults.steps, defaults.sampler):
                latent = step.x_prev
            pixels = model.vae.decode(latent).float()
        yield ((pixels.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def in_float(denoise: Callable[[Tensor, int], tuple[Tensor, Tensor]]) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    r"""The same denoiser with answers in float32: the sampler's sums are not for half precision."""

    def precise(x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        x0, eps = denoise(x_t, t)
        return x0.float(), eps.float()

    return precise


def judged(judge: Judge, wanted: list[Ask], batches: Iterable[Float[Tensor, "b 3 h w"]]) -> Iterator[Painted]:
    r"""The painted pictures one by one, in order, each with what is wrong with it."""
    seed = 0
    for pixels in batches:
        for picture, seen in zip(pixels, judge.examine(pixels)):
            yield Painted(wanted[seed], seed, picture, faults(seen, wanted[seed].scene))
            seed += 1


def share_right(painted: list[Painted]) -> float:
    r"""The share of pictures without any fault."""
    return sum(not picture.faults for picture in painted) / len(painted)


def faults_by_question(painted: list[Painted]) -> dict[str, int]:
    r"""How many pictures are wrong in each respect, the most frequent first; a picture may count in several."""
    return dict(Counter(question for picture in painted for question in picture.faults).most_common())


def shuffled(judge: Judge, painted: list[Painted]) -> float:
    r"""The floor: the share that would be right had each picture been painted for the next prompt of the set."""
    others = painted[1:] + painted[:1]
    seen = judge.examine(torch.stack([picture.pixels for picture in painted]))
    return sum(not faults(s, other.ask.scene) for s, other in zip(seen, others)) / len(painted)
