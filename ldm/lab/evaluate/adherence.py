r"""Adherence: does the model paint what it is asked?

A picture is right when *every* attribute of its prompt is, and nothing stands there twice. Prompts are full captions,
which say what is there and, by silence, what is not; every seed counts.

How it can fool you: the judge errs too (its own accuracy is printed beside), in both directions; and prompts that we
drew are easier than prompts that you think of. Shuffled prompts give the floor: what a model reaches that paints
lovely pictures and does not listen.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ldm.images.pixels import to_pixels
from ldm.lab.evaluate.judge import Judge, faults
from ldm.pipeline import LatentDiffusion
from ldm.postcards import Scene, caption, sample_scene, withheld_caption
from ldm.train.loop import mixed_precision

SERIES = 900  # of the prompts: no drawing and no caption of any training comes from it
BATCH = 32

# Each set of prompts: the scenes it asks for, and in which language (None: either). "wordings" are synonyms in
# company that training withheld from them.
SETS: dict[str, tuple[str, str | None]] = {
    "seen": ("train", "en"),
    "held-out": ("held_out", "en"),
    "french": ("train", "fr"),
    "wordings": ("train", None),
}


@dataclass(frozen=True)
class Ask:
    r"""A prompt, and the scene that it describes in full."""

    prompt: str
    scene: Scene


@dataclass(frozen=True)
class Painted:
    r"""What was asked for, what was painted from which seed, and what the judge sees there."""

    ask: Ask
    seed: int
    image: Image.Image
    seen: dict[str, str]

    @property
    def faults(self) -> dict[str, str]:
        r"""Where the picture is not what was asked for; empty when it is right."""
        return faults(self.seen, self.ask.scene)


def asks(name: str, count: int) -> list[Ask]:
    r"""The first `count` prompts of a set, one of `SETS`."""
    split, language = SETS[name]
    found: list[Ask] = []
    index = 0
    while len(found) < count:
        rng = np.random.default_rng([SERIES, index])
        scene = sample_scene(rng, split)
        prompt = (
            withheld_caption(scene, rng)
            if name == "wordings"
            else caption(scene, rng, language, partial=False)
        )
        if prompt is not None:  # not every scene has a wording that training withheld from it
            found.append(Ask(prompt, scene))
        index += 1
    return found


@torch.no_grad()
def paint(
    model: LatentDiffusion, prompts: Sequence[str], seeds: Sequence[int], batch: int = BATCH
) -> Iterator[Image.Image]:
    r"""Paint prompt i from seed i, all at the model's own size, steps, sampler and guidance; yields the pictures.

    As `LatentDiffusion.generate` does, but a batch holds different prompts, and the networks run in bfloat16 where that
    is quicker (the sampler's sums do not): a picture may differ in its last bits.
    """
    defaults = model.config.defaults
    for i in range(0, len(prompts), batch):
        some = prompts[i : i + batch]
        noise_fn = model.noise_fn(seeds[i : i + batch], (defaults.size, defaults.size))
        with mixed_precision():
            cond, uncond = model.encode_text(some), model.encode_text([""] * len(some))
            denoise = model.denoiser(cond, uncond, defaults.guidance)
            levels = model.levels(defaults.steps, defaults.sampler)
            latent = model.initial_latents(noise_fn(), defaults.sampler, levels)
            for step in model.sample(latent, denoise, noise_fn, defaults.sampler, levels):
                latent = step.x_prev
            images = model.decode(latent)
        yield from images


def judged(
    judge: Judge, wanted: Sequence[Ask], images: Iterable[Image.Image], batch: int = BATCH
) -> Iterator[Painted]:
    r"""The painted pictures in order (number i is of seed i), each with what the judge sees; images may stream in."""
    waiting: list[Image.Image] = []
    first = 0
    for image in images:
        waiting.append(image)
        if len(waiting) == batch or first + len(waiting) == len(wanted):
            for k, seen in enumerate(judge.examine(to_pixels(waiting))):
                yield Painted(wanted[first + k], first + k, waiting[k], seen)
            first, waiting = first + len(waiting), []


def share_right(painted: Sequence[Painted]) -> float:
    r"""The share of pictures without any fault."""
    return sum(not picture.faults for picture in painted) / len(painted)


def share_by_question(painted: Sequence[Painted]) -> dict[str, float]:
    r"""For each question that ever went wrong the share of pictures that got it wrong, the most frequent first."""
    wrong = Counter(question for picture in painted for question in picture.faults)
    return {question: count / len(painted) for question, count in wrong.most_common()}


def shuffled(painted: Sequence[Painted]) -> float:
    r"""The floor: the share that would be right had each picture been painted for the next prompt of the set."""
    others = [*painted[1:], painted[0]]
    return sum(not faults(p.seen, other.ask.scene) for p, other in zip(painted, others)) / len(painted)


def fault_caption(picture: Painted) -> str:
    r"""Prompt, seed and faults in one line, for a sheet."""
    wrong = ", ".join(f"{question}: {seen}" for question, seen in picture.faults.items())
    return f"{picture.ask.prompt} #{picture.seed} [{wrong}]"
