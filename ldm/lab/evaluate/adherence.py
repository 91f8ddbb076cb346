r"""Adherence: does the image show what the prompt asks for?

A prompt asks for a set of facts (see `ldm.postcards.facts`), and an image is correct if the judge finds *every* one of
them. What a prompt leaves out may be there or not. No seed is skipped.

How it can mislead you: the judge makes mistakes in both directions (its own accuracy is reported beside it), and
prompts that a grammar writes are easier than yours; therefore two sets are written by hand. Shuffled prompts give the
baseline: the result of a model that generates lovely images and ignores the prompt.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ldm.images.pixels import to_pixels
from ldm.lab.evaluate.judge import Judge
from ldm.pipeline import LatentDiffusion
from ldm.postcards import (
    Scene,
    caption_with_facts,
    facts,
    handwritten,
    labels,
    sample_scene,
    topic,
    withheld_caption,
)
from ldm.postcards.scene import ANIMALS, GARMENTS

SERIES = 900  # of the prompts: no training drawing or caption comes from it
BATCH = 32

# Each set of captions: the split of its scenes and its language (None: either). "wordings" are synonyms in contexts
# from which training withheld them.
CAPTIONS: dict[str, tuple[str, str | None]] = {
    "seen": ("train", "en"),
    "held-out": ("held_out", "en"),
    "french": ("train", "fr"),
    "wordings": ("train", None),
}
HANDWRITTEN = ("natural", "typos")
SETS = (*CAPTIONS, *HANDWRITTEN)

# What has to be composed, and the topics of the facts about it
COMPOSITION = {
    "counts": ("count",),
    "left and right": ("side",),
    "colours of their things": ("colour", "garment colour"),
}


@dataclass(frozen=True)
class FactPrompt:
    r"""A prompt, the facts that it asks for, and the scene that it describes (None if it is written by hand)."""

    prompt: str
    facts: frozenset[str]
    scene: Scene | None = None


@dataclass(frozen=True)
class JudgedImage:
    r"""A generated image, what it should show, and the judge's answers."""

    target: FactPrompt
    seed: int
    image: Image.Image
    answers: dict[str, str]

    @property
    def missing(self) -> list[str]:
        r"""The facts of the prompt that the judge does not find; empty if the image is correct."""
        return missing_facts(self.answers, self.target)


def missing_facts(answers: dict[str, str], target: FactPrompt) -> list[str]:
    r"""The facts of a prompt that do not follow from the judge's answers, in alphabetical order."""
    return sorted(target.facts - facts(answers))


def set_of_prompts(name: str, count: int) -> list[FactPrompt]:
    r"""The first `count` prompts of a set, one of `SETS`; of the sets written by hand, as many as there are."""
    if name in HANDWRITTEN:
        return [FactPrompt(prompt.text, prompt.facts) for prompt in handwritten(name)[:count]]
    split, language = CAPTIONS[name]
    found: list[FactPrompt] = []
    index = 0
    while len(found) < count:
        rng = np.random.default_rng([SERIES, index])
        scene = sample_scene(rng, split)
        if name == "wordings":
            said = withheld_caption(scene, rng)
        else:
            said = caption_with_facts(scene, rng, language, partial=False, mistakes=False)
        if said is not None:  # some scenes have no withheld wording
            found.append(FactPrompt(said.text, said.facts, scene))
        index += 1
    return found


def generate_images(
    model: LatentDiffusion,
    prompts: Sequence[str],
    negatives: Sequence[str] | None = None,
    batch: int = BATCH,
    **options: Any,
) -> Iterator[Image.Image]:
    r"""Yield an image of each prompt; prompt i has seed i. `options` are those of `LatentDiffusion.generate`.

    This is the call that everybody makes, with the model's defaults and in the dtype in which it was loaded.
    """
    for i in range(0, len(prompts), batch):
        part = slice(i, i + batch)
        yield from model.generate(prompts[part], negatives[part] if negatives else "", seed=i, **options)


def judge_images(
    judge: Judge, targets: Sequence[FactPrompt], images: Iterable[Image.Image], batch: int = BATCH
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
    r"""The fraction of images that show every fact of their prompts."""
    return sum(not image.missing for image in judged) / len(judged)


def topic_scores(judged: Sequence[JudgedImage]) -> dict[str, float]:
    r"""For each topic (place, count, side, ...) the fraction of the facts asked for that the images show."""
    asked = Counter(topic(fact) for image in judged for fact in image.target.facts)
    missing = Counter(topic(fact) for image in judged for fact in image.missing)
    return {name: 1 - missing[name] / count for name, count in sorted(asked.items())}


def composition_scores(judged: Sequence[JudgedImage]) -> dict[str, float]:
    r"""What is hardest to compose: the fraction of the facts about counts, sides and colours that the images show, and
    the fraction of animals with two garments that wear both, in the colours asked for. Only what was asked for.
    """
    scores = {}
    for name, topics in COMPOSITION.items():
        asked = [(image, fact) for image in judged for fact in image.target.facts if topic(fact) in topics]
        if asked:
            scores[name] = sum(fact not in image.missing for image, fact in asked) / len(asked)
    pairs = [(image, kind) for image in judged for kind in ANIMALS if wears_two(image.target.facts, kind)]
    if pairs:
        both = [not any(of_garments(fact, kind) for fact in image.missing) for image, kind in pairs]
        scores["two garments"] = sum(both) / len(both)
    return scores


def wears_two(asked: Collection[str], kind: str) -> bool:
    r"""Whether facts ask for two garments on one animal: "1 dog", "dog hat" and "dog scarf"."""
    return f"1 {kind}" in asked and sum(f"{kind} {garment}" in asked for garment in GARMENTS) == 2


def of_garments(fact: str, kind: str) -> bool:
    r"""Whether a fact is about what an animal wears: "dog hat", "dog red hat", "brown dog hat"."""
    return kind in fact.split() and topic(fact) in ("garment", "garment colour")


def flawless_scores(judged: Sequence[JudgedImage]) -> dict[str, float]:
    r"""By the judge, the fractions of walls that are uniform and of animals whose eyes match; for prompts of scenes."""
    scores = {}
    for question, name in (("uniform wall", "uniform walls"), ("eyes match", "matching eyes")):
        asked = [image for image in judged if image.target.scene and question in labels(image.target.scene)]
        if asked:
            scores[name] = sum(image.answers[question] == "yes" for image in asked) / len(asked)
    return scores


def shuffled_baseline(judged: Sequence[JudgedImage]) -> float:
    r"""The fraction of images that would be correct for the next prompt of the set."""
    targets = [image.target for image in [*judged[1:], judged[0]]]
    return sum(not missing_facts(j.answers, target) for j, target in zip(judged, targets)) / len(judged)


def error_caption(image: JudgedImage) -> str:
    r"""Prompt, seed and missing facts in one line, for a sheet."""
    return f"{image.target.prompt} #{image.seed} [not: {', '.join(image.missing)}]"
