r"""Attention: does a word's map fall on the thing that the word names?

For drawings we know where everything is. Each drawing's latent is noised to a few of the levels that sampling visits,
and the U-Net denoises it with the drawing's caption. For each word that names a single thing, the share of its
attention map inside that thing's box is compared with the box's share of the image, which is what a uniform map gives.

How it can mislead you: a box has corners in which the thing is not; the latents are those of drawings, not generated
ones; a head may look at whatever stands out, whichever word asks (so the maps of the caption's other words are measured
in the same boxes); and that a head attends to a place shows what it reads there, not what the network does with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ldm.checkpoints.finding import find
from ldm.checkpoints.folder import read_config, write_config
from ldm.config import Head
from ldm.diffusion.level import Level
from ldm.errors import LdmError
from ldm.images.pixels import to_pixels
from ldm.loading import load
from ldm.pipeline import LatentDiffusion
from ldm.postcards import caption_with_facts, draw_with_boxes, names, sample_scene
from ldm.postcards.canvas import Box
from ldm.postcards.scene import ANIMALS, GARMENTS, THINGS
from ldm.text.positions import prompt_words
from ldm.text.tokenizer import Tokenizer
from ldm.unet.watch import head_counts, watch_attention

SERIES, CHOICE_SERIES = 907, 908  # the drawings that are measured, and others, by which heads are chosen
LARGEST = 0.25  # of the image: no map can be much more than chance inside a larger box
LEVELS = 4  # noise levels per drawing
MOST = 16  # heads to choose


@dataclass(frozen=True)
class NamedThing:
    r"""A word of a drawing's caption: the positions of its tokens and of all other words', and its thing's box."""

    positions: tuple[int, ...]
    others: tuple[int, ...]
    box: Box


@dataclass(frozen=True)
class Example:
    r"""A drawing, its caption, and the things that the caption names; at least one."""

    image: Image.Image
    caption: str
    things: tuple[NamedThing, ...]


@dataclass(frozen=True)
class Masses:
    r"""Of n words and all heads, the mean attention weight inside the word's box and in all, and the box's area."""

    heads: list[Head]
    inside: Float[Tensor, "n heads"]
    total: Float[Tensor, "n heads"]
    area: Float[Tensor, "n"]

    def share(self, chosen: Sequence[Head] = ()) -> float:
        r"""The share of a map inside its box, averaged over words. The map is the mean over some heads (or all)."""
        columns = [self.heads.index(head) for head in chosen] or list(range(len(self.heads)))
        shares = self.inside[:, columns].sum(dim=1) / self.total[:, columns].sum(dim=1)
        return shares.mean().item()

    @property
    def chance(self) -> float:
        r"""The share of the image that a box covers, averaged over words."""
        return self.area.mean().item()


def named_things(tokenizer: Tokenizer, text: str, language: str, boxes: Sequence[Box]) -> list[NamedThing]:
    r"""The things, animals and garments that a caption names once and that are in the drawing once, in a small box."""
    words = prompt_words(tokenizer, text)
    spelled = [word.text for word in words]
    kinds, found = [box.word for box in boxes], []
    for box in boxes:
        area = (box.right - box.left) * (box.bottom - box.top)
        if (
            box.word not in (*THINGS, *ANIMALS, *GARMENTS)
            or kinds.count(box.word) > 1
            or not 0 < area <= LARGEST
        ):
            continue
        forms = {tuple(tokenizer.words(name)) for name in names(box.word, language)}
        runs = [
            range(i, i + len(form))
            for form in forms
            for i in range(len(spelled))
            if spelled[i : i + len(form)] == [*form]
        ]
        # Not the "bear" of a "teddy bear"
        longest = [run for run in runs if not any(set(run) < set(other) for other in runs)]
        if len(longest) == 1:
            own, others = (
                tuple(
                    p for i, word in enumerate(words) if (i in longest[0]) == inside for p in word.positions
                )
                for inside in (True, False)
            )
            found.append(NamedThing(own, others, box))
    return found


def examples(tokenizer: Tokenizer, count: int, size: int, series: int = SERIES) -> Iterator[Example]:
    r"""`count` drawings with captions that name at least one thing with a small box."""
    index = 0
    while count:
        rng = np.random.default_rng([series, index])
        index += 1
        scene = sample_scene(rng)
        said = caption_with_facts(scene, rng, partial=False, mistakes=False)
        image, boxes = draw_with_boxes(scene, rng, size)
        things = named_things(tokenizer, said.text, said.language, boxes)
        if things:
            count -= 1
            yield Example(image, said.text, tuple(things))


def with_other_words(example: Example) -> Example:
    r"""The same boxes with the caption's other words: what `measure` gives if a map does not depend on the word."""
    things = (replace(thing, positions=thing.others) for thing in example.things if thing.others)
    return replace(example, things=tuple(things))


@torch.no_grad()
def attention_masses(model: LatentDiffusion, some: Sequence[Example]) -> Masses:
    r"""Evaluate the U-Net on the examples, all in one batch, at `LEVELS` noise levels.

    Raises `LdmError` for a U-Net without cross-attention.
    """
    counts = head_counts(model.unet)
    heads = [Head(layer, i) for layer, number in counts.items() for i in range(number)]
    if not heads:
        raise LdmError("this U-Net has no cross-attention, so there are no attention maps to measure")
    things = [(i, thing) for i, example in enumerate(some) for thing in example.things]
    inside, total = torch.zeros(2, len(things), len(heads))
    layers = [head.layer for head in heads]

    def see(layer: str, resolution: tuple[int, int], weights: Tensor) -> None:
        first = layers.index(layer)
        columns = slice(first, first + counts[layer])
        for k, (i, thing) in enumerate(things):
            maps = weights[i][..., list(thing.positions)].sum(dim=-1).float().cpu()  # heads n
            inside[k, columns] += (
                maps * torch.from_numpy(thing.box.coverage(*resolution)).flatten().to(maps)
            ).mean(dim=-1)
            total[k, columns] += maps.mean(dim=-1)

    latents = model.encode_image(to_pixels([example.image for example in some]).to(model.device))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(SERIES)).to(latents)
    cond = model.encode_text([example.caption for example in some])
    with watch_attention(model.unet, see):
        for level in visited_levels(model):
            model.predict(level.mix(latents, noise), level, cond)
    boxes = [thing.box for _, thing in things]
    area = torch.tensor([(box.right - box.left) * (box.bottom - box.top) for box in boxes])
    return Masses(heads, inside, total, area)


def visited_levels(model: LatentDiffusion, count: int = LEVELS) -> list[Level]:
    r"""`count` of the noise levels that sampling visits by default: the middles of as many equal parts."""
    sampler = model.config.defaults.sampler
    levels = model.levels(sampler, model.default_steps(sampler))[:-1]  # the last is clean
    return [levels[int((i + 0.5) * len(levels) / count)] for i in range(count)]


def measure(model: LatentDiffusion, some: Sequence[Example], batch: int = 20) -> Masses:
    r"""`attention_masses` of any number of examples, `batch` at a time."""
    parts = [attention_masses(model, some[i : i + batch]) for i in range(0, len(some), batch)]
    inside, total, area = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("inside", "total", "area")
    )
    return Masses(parts[0].heads, inside, total, area)


def ranked_heads(masses: Masses) -> list[tuple[Head, float]]:
    r"""All heads, each with the ratio of its share to chance, the best first."""
    ratios = [(head, masses.share([head]) / masses.chance) for head in masses.heads]
    return sorted(ratios, key=lambda pair: -pair[1])


def choose_heads(masses: Masses) -> tuple[Head, ...]:
    r"""The best few heads: those first in the ranking, as many as together give the best map, at most `MOST`."""
    best = [head for head, _ in ranked_heads(masses)][:MOST]
    count = max(range(1, len(best) + 1), key=lambda k: masses.share(best[:k]))
    return tuple(best[:count])


def store_heads(
    model_name: str | Path, count: int = 200
) -> tuple[tuple[Head, ...], list[tuple[Head, float]]]:
    r"""Choose a model's heads by `count` drawings, and write them to its config.json. Returns them and the ranking.

    The drawings are not those that `ldm evaluate` measures. Raises `LdmError` for a model that is not a folder of ours.
    """
    folder = find(model_name)
    config, model = read_config(folder), load(folder)
    masses = measure(model, list(examples(model.tokenizer, count, config.defaults.size, CHOICE_SERIES)))
    chosen = choose_heads(masses)
    write_config(folder, replace(config, map_heads=chosen))
    return chosen, ranked_heads(masses)
