r"""Adherence: does the image show what the prompt asks for?

A prompt asks for a set of facts (see `ldm.postcards.facts`), and an image is correct if the judge finds *every* one of
them. What a prompt leaves out may be there or not. No seed is skipped.

How it can mislead you: the judge makes mistakes in both directions (its own accuracy is reported beside it), and
prompts that a grammar writes are easier than yours; therefore two sets are written by hand. Facts are coarse: an image
of two red boats and a blue one also passes for one red boat and two blue ones. Shuffled prompts give the baseline: the
result of a model that generates lovely images and ignores the prompt.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ldm.images.pixels import to_pixels
from ldm.lab.evaluate.judge import Judge
from ldm.pipeline import LatentDiffusion
from ldm.postcards import (
    Caption,
    Scene,
    arranged,
    caption_with_facts,
    draw,
    facts,
    handwritten,
    labels,
    mistyped_caption,
    sample_scene,
    topic,
    withheld_caption,
)
from ldm.postcards.captions import is_withheld
from ldm.postcards.scene import ANIMALS, COLOURS, FURS, GARMENTS, WALLS

# Two series of prompts, from which no training drawing or caption comes: `ldm evaluate` measures one, and everything
# else takes the other. So no setting is chosen by the prompts that it is then measured on (`make samplers`).
MEASURED_SERIES, SERIES = 899, 900
BATCH = 32

# Each set of captions: the split of its scenes and its language (None: either). "wordings" are synonyms in contexts
# from which training withheld them, and "misspelled" captions have slips that training never makes.
CAPTIONS: dict[str, tuple[str, str | None]] = {
    "seen": ("train", "en"),
    "held-out": ("held_out", "en"),
    "french": ("train", "fr"),
    "wordings": ("train", None),
    "misspelled": ("train", None),
}
HANDWRITTEN = ("natural", "typos")
SETS = (*CAPTIONS, *HANDWRITTEN)
COLOUR_NAMES = {*COLOURS, *FURS, *WALLS}


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
    r"""The facts of a prompt that do not follow from the judge's answers, in alphabetical order.

    "red boat" follows from *one* red boat. A prompt that asks for two boats and names no other colour means both, so a
    blue one beside it makes "red boat" missing (see `contraries`).
    """
    shown = facts(answers)
    return sorted(f for f in target.facts if f not in shown or not shown.isdisjoint(contraries(f, target)))


def contraries(fact: str, target: FactPrompt) -> set[str]:
    r"""The facts that show that `fact` is true of only some of the two or three things for which a prompt asks it.

    Of two red boats, any other colour of a boat that the prompt does not name; of two cats that both wear red scarves
    in the prompt's scene, "cat no scarf" and other colours of scarves. Without a scene (a prompt written by hand),
    garments have none, because it is not known which of the animals wears them.
    """
    words, about = fact.split(), topic(fact)
    kind = words[-1] if about == "colour" else words[0]
    if target.facts.isdisjoint((f"2 {kind}", f"3 {kind}")):
        return set()
    if about == "colour":
        return {f"{colour} {kind}" for colour in COLOUR_NAMES} - target.facts
    bare = f"{kind} no {words[-1]}"
    if (
        about not in ("garment", "garment colour")
        or target.scene is None
        or bare in facts(labels(target.scene))
    ):
        return set()
    others = {f"{kind} {colour} {words[-1]}" for colour in COLOURS} if about == "garment colour" else set()
    return {bare, *others} - target.facts


def set_of_prompts(name: str, count: int, series: int = SERIES) -> list[FactPrompt]:
    r"""The first `count` prompts of a set, one of `SETS`; of the sets written by hand, as many as there are.

    The sets written by hand are the same for every `series`.
    """
    if name in HANDWRITTEN:
        return [FactPrompt(prompt.text, prompt.facts) for prompt in handwritten(name)[:count]]
    split, language = CAPTIONS[name]
    found: list[FactPrompt] = []
    index = 0
    while len(found) < count:
        rng = np.random.default_rng([series, index])
        scene = sample_scene(rng, split)
        described = _describe(name, scene, language, rng)
        if described is not None:
            found.append(FactPrompt(described.text, described.facts, scene))
        index += 1
    return found


def _describe(name: str, scene: Scene, language: str | None, rng: np.random.Generator) -> Caption | None:
    r"""A full caption of the scene for a set; None if there is none."""
    if name == "wordings":
        return withheld_caption(scene, rng)
    if name == "misspelled":
        caption = mistyped_caption(scene, rng, language)
        return None if is_withheld(caption.text, scene) else caption  # one difficulty at a time
    return caption_with_facts(scene, rng, language, partial=False, mistakes=False)


def draw_target(target: FactPrompt, rng: np.random.Generator, size: int) -> tuple[Scene, Image.Image]:
    r"""Another drawing of a prompt's scene, arranged anew as far as the prompt leaves it open, and what it shows.

    A drawing is what a perfect model could have generated for the prompt. `target` must have a scene.
    """
    assert target.scene is not None
    while True:
        scene = arranged(target.scene, rng)
        if not missing_facts(labels(scene), target):  # the prompt may say what is on the left
            return scene, draw(scene, rng, size)


def generate_images(
    model: LatentDiffusion,
    prompts: Sequence[str],
    negatives: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    batch: int = BATCH,
    **options: Any,
) -> Iterator[Image.Image]:
    r"""Yield an image of each prompt. `options` are those of `LatentDiffusion.generate`.

    Each prompt has a negative prompt and a seed; without `seeds`, prompt i has seed i. This is the call that everybody
    makes, with the model's defaults and in the dtype in which it was loaded.
    """
    for i in range(0, len(prompts), batch):
        part = slice(i, i + batch)
        seed = i if seeds is None else list(seeds[part])
        yield from model.generate(prompts[part], negatives[part] if negatives else "", seed=seed, **options)


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
    r"""What is hardest to compose: of the facts of each kind in `COMPOSITION` that prompts ask for, the fraction that
    the images show; and the fraction of animals in two garments that wear both, in the colours asked for.
    """
    shown: dict[str, list[bool]] = {name: [] for name in (*COMPOSITION, "two garments")}
    for image in judged:
        target, missing = image.target, image.missing
        for name, is_one in COMPOSITION.items():
            shown[name] += [fact not in missing for fact in target.facts if is_one(fact, target)]
        dressed = [kind for kind in ANIMALS if wears_two(target.facts, kind)]
        shown["two garments"] += [not any(of_garments(f, kind) for f in missing) for kind in dressed]
    return {name: sum(some) / len(some) for name, some in shown.items() if some}


def is_bound_colour(fact: str, target: FactPrompt) -> bool:
    r"""Whether a fact gives something a colour in a prompt that names several (one alone cannot be misplaced)."""
    coloured = [f for f in target.facts if topic(f) in ("colour", "garment colour", "wall")]
    named = {word for f in coloured for word in f.split() if word in COLOUR_NAMES}
    return len(named) > 1 and topic(fact) in ("colour", "garment colour")


# What has to be composed: whether a fact of a prompt is about it. (Most counts are 1, which is no feat.)
COMPOSITION: dict[str, Callable[[str, FactPrompt], bool]] = {
    "one of a kind": lambda fact, _: topic(fact) == "count" and fact.startswith("1 "),
    "two or three of a kind": lambda fact, _: topic(fact) == "count" and fact[:2] in ("2 ", "3 "),
    "left and right": lambda fact, _: topic(fact) == "side",
    "colours, of several in a prompt": is_bound_colour,
}


def wears_two(asked: Collection[str], kind: str) -> bool:
    r"""Whether facts ask for two garments on one animal: "1 dog", "dog hat" and "dog scarf"."""
    return f"1 {kind}" in asked and sum(f"{kind} {garment}" in asked for garment in GARMENTS) == 2


def of_garments(fact: str, kind: str) -> bool:
    r"""Whether a fact is about what an animal wears: "dog hat", "dog red hat", "brown dog hat"."""
    return kind in fact.split() and topic(fact) in ("garment", "garment colour")


def flawless_scores(judged: Sequence[JudgedImage]) -> dict[str, float]:
    r"""The fractions of walls that are uniform and of animals whose eyes match, among images whose prompts describe
    scenes with a wall or an animal. Watercolours, whose washes are uneven, are not asked about their walls.
    """
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
