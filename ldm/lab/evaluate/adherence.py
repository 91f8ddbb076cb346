r"""Adherence: does the image show what the prompt describes?

An image is correct if *every* attribute of its prompt is correct and nothing appears twice. Prompts are full captions,
which mention all attributes (what they leave out is absent), and no seed is skipped.

How it can mislead you: the judge makes mistakes in both directions (its own accuracy is reported beside it), and our
drawn prompts are easier than yours. Shuffled prompts give the baseline: the result of a model that generates lovely
images and ignores the prompt.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ldm.images.pixels import to_pixels
from ldm.lab.evaluate.judge import Judge, wrong_answers
from ldm.pipeline import LatentDiffusion
from ldm.postcards import Scene, caption, sample_scene, withheld_caption
from ldm.train.loop import mixed_precision

SERIES = 900  # of the prompts: no training drawing or caption comes from it
BATCH = 32

# Each set of prompts: the split of its scenes and its language (None: either). "wordings" are synonyms in contexts from
# which training withheld them.
SETS: dict[str, tuple[str, str | None]] = {
    "seen": ("train", "en"),
    "held-out": ("held_out", "en"),
    "french": ("train", "fr"),
    "wordings": ("train", None),
}


@dataclass(frozen=True)
class ScenePrompt:
    r"""A prompt and the scene that it describes in full."""

    prompt: str
    scene: Scene


@dataclass(frozen=True)
class JudgedImage:
    r"""A generated image, what it should show, and the judge's answers."""

    target: ScenePrompt
    seed: int
    image: Image.Image
    answers: dict[str, str]

    @property
    def errors(self) -> dict[str, str]:
        r"""The judge's answers that differ from the prompt; empty if the image is correct."""
        return wrong_answers(self.answers, self.target.scene)


def scene_prompts(name: str, count: int) -> list[ScenePrompt]:
    r"""The first `count` prompts of a set, one of `SETS`."""
    split, language = SETS[name]
    found: list[ScenePrompt] = []
    index = 0
    while len(found) < count:
        rng = np.random.default_rng([SERIES, index])
        scene = sample_scene(rng, split)
        prompt = (
            withheld_caption(scene, rng)
            if name == "wordings"
            else caption(scene, rng, language, partial=False)
        )
        if prompt is not None:  # some scenes have no withheld wording
            found.append(ScenePrompt(prompt, scene))
        index += 1
    return found


def generate_images(
    model: LatentDiffusion, prompts: Sequence[str], batch: int = BATCH, **options: Any
) -> Iterator[Image.Image]:
    r"""Yield an image of each prompt; prompt i has seed i. `options` are those of `LatentDiffusion.generate`.

    The networks run in bfloat16 where that is faster, so images may differ from `generate`'s in their last bits.
    """
    for i in range(0, len(prompts), batch):
        with mixed_precision():
            images = model.generate(prompts[i : i + batch], seed=i, **options)
        yield from images


def judge_images(
    judge: Judge, targets: Sequence[ScenePrompt], images: Iterable[Image.Image], batch: int = BATCH
) -> Iterator[JudgedImage]:
    r"""Judge the images, which may be an iterator, in order; image i has seed i."""
    waiting: list[Image.Image] = []
    first = 0
    for image in images:
        waiting.append(image)
        if len(waiting) == batch or first + len(waiting) == len(targets):
            for k, answers in enumerate(judge.predict(to_pixels(waiting))):
                yield JudgedImage(targets[first + k], first + k, waiting[k], answers)
            first, waiting = first + len(waiting), []


def fraction_correct(judged: Sequence[JudgedImage]) -> float:
    r"""The fraction of images without errors."""
    return sum(not image.errors for image in judged) / len(judged)


def error_rates(judged: Sequence[JudgedImage]) -> dict[str, float]:
    r"""The fraction of images with an error, for each question with errors, the most frequent first."""
    wrong = Counter(question for image in judged for question in image.errors)
    return {question: count / len(judged) for question, count in wrong.most_common()}


def shuffled_baseline(judged: Sequence[JudgedImage]) -> float:
    r"""The fraction of images that would be correct for the next prompt of the set."""
    targets = [image.target for image in [*judged[1:], judged[0]]]
    return sum(not wrong_answers(j.answers, t.scene) for j, t in zip(judged, targets)) / len(judged)


def error_caption(image: JudgedImage) -> str:
    r"""Prompt, seed and errors in one line, for a sheet."""
    wrong = ", ".join(f"{question}: {answer}" for question, answer in image.errors.items())
    return f"{image.target.prompt} #{image.seed} [{wrong}]"
