r"""More measurements of the report: what the options change, where the words are read, and how images differ."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import ImageOps

from ldm.images.pixels import to_pixels
from ldm.lab.evaluate import attention_maps, controls, diversity
from ldm.lab.evaluate.adherence import (
    MEASURED_SERIES,
    FactPrompt,
    JudgedImage,
    draw_target,
    fraction_correct,
    generate_images,
    judge_images,
    set_of_prompts,
)
from ldm.lab.evaluate.metrics import Metric
from ldm.lab.evaluate.setup import SERIES, Setup, save, with_progress
from ldm.lab.evaluate.sheets import paired_rows, titled_rows
from ldm.lab.evaluate.understanding import embed_images
from ldm.postcards import postcard

TRAINING_SERIES = 0  # of the postcards that the shipped model is trained on
GUIDANCES = (1.0, 2.0, 4.0, 6.0, 8.0, 12.0)  # of the sheet
ROWS = 8  # prompts on a sheet


def guidance_metrics(setup: Setup, judged: Sequence[JudgedImage]) -> list[Metric]:
    r"""How much guidance helps: the prompts and seeds of `judged` again at guidance 1. A sheet shows several scales."""
    judged = judged[: setup.counts.guidance]
    targets = [image.target for image in judged]
    prompts = [target.prompt for target in targets]
    images = with_progress(
        generate_images(setup.model, prompts, guidance=1.0), len(prompts), "generating (guidance 1)"
    )
    usual = fraction_correct(judged)
    without = fraction_correct(list(judge_images(setup.judge, targets, images)))
    rows = [list(generate_images(setup.model, prompts[:ROWS], guidance=scale)) for scale in GUIDANCES]
    titles = [f"guidance {scale:g}" for scale in GUIDANCES]
    save(titled_rows(titles, rows), setup.out / "guidance.png")
    chapter = f"guidance, {len(prompts)} prompts"
    return [
        Metric(chapter, "every attribute right, default guidance", usual, "%"),
        Metric(chapter, "every attribute right, guidance 1", without, "%"),
        Metric(chapter, "lost without guidance", usual - without, "%", 0.15),
    ]


def negative_metrics(setup: Setup) -> list[Metric]:
    r"""Bare prompts; then those images again that show something unasked, with that as the negative prompt.

    They are generated once more with a negative prompt that names something else: how often is it gone by chance?
    """
    count = setup.counts.negative
    bare = [controls.BARE_PROMPTS[i % len(controls.BARE_PROMPTS)] for i in range(count)]
    targets = [FactPrompt(prompt, frozenset()) for prompt in bare]
    images = with_progress(generate_images(setup.model, bare), count, "generating (bare prompts)")
    before = [image for image in judge_images(setup.judge, targets, images) if controls.unasked(image)]
    unasked = [controls.unasked(image) for image in before]
    again = [image.target for image in before]

    def generate(negatives: list[str], what: str) -> list[JudgedImage]:
        prompts, seeds = [target.prompt for target in again], [image.seed for image in before]
        images = generate_images(setup.model, prompts, negatives, seeds)
        return list(
            judge_images(setup.judge, again, with_progress(images, len(again), f"generating ({what})"))
        )

    after = generate(unasked, "negative prompts")
    control = generate([controls.unrelated(image) for image in before], "other negative prompts")
    if before:
        titles = [
            f"{target.prompt}: alone; without {word!r}; without something else"
            for target, word in zip(again, unasked, strict=True)
        ]
        rows = [[image.image for image in three] for three in zip(before, after, control, strict=True)]
        save(titled_rows(titles[:ROWS], rows[:ROWS]), setup.out / "negative.png")
    chapter = f"negative prompts, {len(before)} images that show something unasked"
    removed, by_chance = (controls.fraction_removed(images, unasked) for images in (after, control))
    return [
        Metric(chapter, "it is gone with the negative prompt", removed, "%", 0.85),
        Metric(chapter, "it is gone with a negative prompt of something else (chance)", by_chance, "%"),
    ]


def size_metrics(setup: Setup) -> list[Metric]:
    r"""Images smaller, larger and not square: is anything in them twice? For prompts where the judge could tell."""
    count = setup.counts.sizes
    seen = set_of_prompts("seen", 4 * count, MEASURED_SERIES)
    targets = [t for t in seen if t.scene is not None and controls.can_be_doubled(t.scene)][:count]
    prompts, judged, rows, titles = [target.prompt for target in targets], [], [], []
    for shape in with_progress(controls.SHAPES, len(controls.SHAPES), "generating (sizes)", "size"):
        width, height = (setup.size * quarters // 4 for quarters in shape)
        images = list(generate_images(setup.model, prompts, size=(width, height)))
        judged += list(judge_images(setup.judge, targets, images))
        rows.append([ImageOps.pad(image, (setup.size,) * 2, color="white") for image in images[:ROWS]])
        titles.append(f"{width} x {height}")
    save(titled_rows(titles, rows), setup.out / "sizes.png")
    chapter = f"sizes, {len(prompts)} prompts in each of {len(titles)}"
    return [
        Metric(chapter, "no doubled subject", controls.fraction_single(judged), "%", 0.80),
        Metric(chapter, "every attribute right", fraction_correct(judged), "%"),
    ]


def attention_metrics(setup: Setup) -> list[Metric]:
    r"""Where the maps fall that the trace and the page of `ldm explore` show.

    The maps of the caption's other words are a control: a head may find whatever stands out, whichever word asks.
    """
    count = setup.counts.attention
    drawn = attention_maps.examples(setup.tokenizer, count, setup.size)
    some = list(with_progress(drawn, count, "drawing (attention)"))
    masses, others = (
        attention_maps.measure(setup.model, these)
        for these in (some, [attention_maps.with_other_words(e) for e in some])
    )
    chosen = setup.model.config.map_heads
    chapter = f"attention, {len(masses.area)} words of {count} drawings"
    return [
        Metric(chapter, "share of a word's map in the box of its thing", masses.share(chosen), "%"),
        Metric(chapter, "share of the image in that box (chance)", masses.chance, "%"),
        Metric(chapter, "ratio of the two", masses.share(chosen) / masses.chance, "", 3.0),
        Metric(chapter, "ratio, mean over all heads", masses.share() / masses.chance),
        Metric(chapter, "ratio, the caption's other words in that box", others.share(chosen) / others.chance),
    ]


def diversity_metrics(setup: Setup) -> list[Metric]:
    r"""Many images of one prompt, compared with drawings of the prompt's scene.

    Over all prompts together the sun may be as often left as right though each prompt has its side, so the rarer side
    is also found prompt by prompt: by chance alone it is rarer than a half, as the drawings show.
    """
    prompts, each = setup.counts.variety
    ratios: dict[str, list[float]] = {"CLIP": [], "pixels": []}
    suns: dict[str, list[list[str]]] = {"images": [], "drawings": []}
    chosen = set_of_prompts("seen", prompts, MEASURED_SERIES)
    targets = with_progress(chosen, prompts, "generating (variety)")
    for k, target in enumerate(targets):
        generators = [np.random.default_rng([SERIES + 4, k, i]) for i in range(each)]
        scenes, drawn = zip(*(draw_target(target, rng, setup.size) for rng in generators), strict=True)
        images = list(generate_images(setup.model, [target.prompt] * each))
        generated_and_drawn = [to_pixels(images), to_pixels(drawn)]
        for name, features in (
            ("CLIP", [embed_images(setup.clip, pixels) for pixels in generated_and_drawn]),
            ("pixels", [diversity.thumbnails(pixels) for pixels in generated_and_drawn]),
        ):
            ours, theirs = map(diversity.mean_pairwise_distance, features)
            ratios[name].append(ours / theirs)
        if scenes[0].sun_is_visible and f"sun {scenes[0].sun}" not in target.facts:
            judged = judge_images(setup.judge, [target] * each, images)
            suns["images"].append([image.answers["sun"] for image in judged])
            suns["drawings"].append([scene.sun for scene in scenes])
    chapter = f"diversity, {prompts} prompts x {each} seeds"
    of_drawings = "mean pairwise distance, as a share of the drawings'"
    metrics = [
        Metric(chapter, f"{of_drawings}, CLIP", sum(ratios["CLIP"]) / prompts, "", 0.85),
        Metric(chapter, f"{of_drawings}, pixels", sum(ratios["pixels"]) / prompts),
    ]
    return metrics + (_sun_metrics(chapter, suns) if suns["images"] else [])  # no prompt may leave it open


def _sun_metrics(chapter: str, suns: dict[str, list[list[str]]]) -> list[Metric]:
    r"""How often the sun is on its rarer side: of all images, then of each prompt's images and drawings."""
    name = "sun or moon, left or right: the rarer side"
    together = diversity.rarer_side([side for sides in suns["images"] for side in sides])
    metrics = [Metric(chapter, name, together, "%", 0.40)]
    for which, prompts in suns.items():
        each = sum(map(diversity.rarer_side, prompts)) / len(prompts)
        metrics.append(Metric(chapter, f"{name} of each prompt, {which}", each, "%"))
    return metrics


def memorisation_metrics(setup: Setup, judged: Sequence[JudgedImage]) -> list[Metric]:
    r"""How near generated images are to training drawings, compared with new drawings; and a sheet of neighbours.

    `judged` are images of prompts of scenes. The training drawings have the model's own size before they are reduced:
    lines of a pixel's width differ at another size, and a copy would not be found.
    """
    count = setup.counts.training
    library = torch.cat(
        [
            diversity.thumbnails(to_pixels([postcard(i, TRAINING_SERIES, setup.size).image]))
            for i in with_progress(range(count), count, "drawing (training)")
        ]
    )
    judged = judged[: setup.counts.compared]
    generated = diversity.thumbnails(to_pixels([image.image for image in judged]))
    drawn = [
        draw_target(image.target, np.random.default_rng([SERIES + 7, i]), setup.size)[1]
        for i, image in enumerate(judged)
    ]
    indices, _ = diversity.nearest(generated[:16], library)
    twins = [postcard(i, TRAINING_SERIES, setup.size).image for i in indices.tolist()]
    save(paired_rows([image.image for image in judged[:16]], twins), setup.out / "nearest.png")
    ratio = diversity.memorisation_ratio(generated, diversity.thumbnails(to_pixels(drawn)), library)
    chapter = f"memorisation, {len(judged)} images and {count} training drawings"
    return [Metric(chapter, "distance to the nearest one, as a multiple of new drawings'", ratio, "", 0.95)]
