r"""Negative prompts and sizes: what the options of `generate` change in an image, by the judge.

How it can mislead you: a bare prompt ("a lake") leaves it to the model what else there is, so what a negative prompt
can remove is what the model likes to add. What is rare may be gone from a second image whatever the negative prompt
says, so the same images are also generated with one that names something else. And the judge, which has learned from
square drawings of one size, sees an image of another shape squashed to it.
"""

from collections.abc import Sequence

from ldm.lab.evaluate.adherence import JudgedImage
from ldm.postcards import QUESTIONS, Scene, facts, labels
from ldm.postcards.scene import ANIMALS, GARMENTS, THINGS

# They leave open what else there is.
BARE_PROMPTS = (
    "a lake",
    "a forest",
    "the sea",
    "a desert",
    "a meadow",
    "a dog",
    "a cat",
    "a rabbit",
    "a bear",
)
REMOVABLE = (*THINGS, *GARMENTS, *ANIMALS, "rain", "snow", "fog", "rainbow")
# Widths and heights, in quarters of the size that the model was trained at
SHAPES = ((3, 3), (3, 4), (4, 3), (4, 6), (6, 4), (5, 5), (6, 6))


def unasked(image: JudgedImage) -> str:
    r"""One thing that the image shows and its prompt does not ask for, as a negative prompt names it; "" if none.

    Of several, the image's seed chooses one.
    """
    shown = facts(image.answers) - image.target.facts
    found = [word for word in REMOVABLE if word in shown and word not in image.target.prompt.split()]
    return found[image.seed % len(found)] if found else ""


def unrelated(image: JudgedImage) -> str:
    r"""One thing that neither the image shows nor its prompt names: a negative prompt that has nothing to remove."""
    shown = facts(image.answers)
    absent = [word for word in REMOVABLE if word not in shown and word not in image.target.prompt.split()]
    return absent[image.seed % len(absent)]


def fraction_removed(judged: Sequence[JudgedImage], negatives: Sequence[str]) -> float:
    r"""The fraction of images that no longer show what their negative prompts name; 0 of no images."""
    gone = [word not in facts(image.answers) for image, word in zip(judged, negatives, strict=True)]
    return sum(gone) / max(len(gone), 1)


def can_be_doubled(scene: Scene) -> bool:
    r"""Whether the judge could see one more of something: it counts no more than a scene may hold."""
    counts = labels(scene)
    things = any(counts.get(kind, "0") not in ("0", QUESTIONS[kind][-1]) for kind in THINGS)
    return things or len(scene.animals) == 1


def doubled(answers: dict[str, str], scene: Scene) -> list[str]:
    r"""The things and animals of the scene of which the judge sees more than there should be."""
    wanted, seen = (_counts(facts(some)) for some in (labels(scene), answers))
    return [kind for kind, count in wanted.items() if seen.get(kind, 0) > count]


def _counts(true: frozenset[str]) -> dict[str, int]:
    r"""How many there are of each kind: "2 boat" is {"boat": 2}."""
    return {kind: n for kind in (*THINGS, *ANIMALS) for n in (1, 2, 3) if f"{n} {kind}" in true}


def fraction_single(judged: Sequence[JudgedImage]) -> float:
    r"""The fraction of images in which nothing is doubled; their prompts describe scenes."""
    scenes = [(image, image.target.scene) for image in judged if image.target.scene]
    return sum(not doubled(image.answers, scene) for image, scene in scenes) / len(scenes)
