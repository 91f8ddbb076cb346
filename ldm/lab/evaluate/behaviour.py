r"""More measurements of the report: what the options change, where the words are read, and how images differ."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import ImageOps

from ldm.images.pixels import to_pixels
from ldm.lab.evaluate import attention, controls, diversity
from ldm.lab.evaluate.adherence import (
    FactPrompt,
    JudgedImage,
    fraction_correct,
    generate_images,
    judge_images,
    set_of_prompts,
)
from ldm.lab.evaluate.metrics import Metric
from ldm.lab.evaluate.setup import SERIES, Setup, save, with_progress
from ldm.lab.evaluate.sheets import paired_rows, titled_rows
from ldm.lab.evaluate.understanding import embed_images
from ldm.postcards import arranged, draw, postcard

TRAINING_SERIES = 0  # of the postcards that the shipped model is trained on
GUIDANCES = (1.0, 2.0, 4.0, 6.0, 8.0, 12.0)  # of the sheet
ROWS = 8  # prompts on a sheet


def guidance_metrics(setup: Setup, judged: Sequence[JudgedImage]) -> list[Metric]:
    r"""What guidance is good for: the same prompts and seeds as `judged`, at guidance 1; and a sheet of several."""
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
    r"""Bare prompts; then those images again that show something unasked, with that as the negative prompt."""
    count = setup.counts.negative
    bare = [controls.BARE_PROMPTS[i % len(controls.BARE_PROMPTS)] for i in range(count)]
    targets = [FactPrompt(prompt, frozenset()) for prompt in bare]
    images = with_progress(generate_images(setup.model, bare), count, "generating (bare prompts)")
    before = list(judge_images(setup.judge, targets, images))
    negatives = [controls.unasked(image) for image in before]
    # All are generated again, so that every image keeps its seed.
    images = with_progress(
        generate_images(setup.model, bare, negatives), count, "generating (negative prompts)"
    )
    after = list(judge_images(setup.judge, targets, images))
    chosen = [i for i, word in enumerate(negatives) if word]
    share = controls.fraction_removed([after[i] for i in chosen], [negatives[i] for i in chosen])
    if chosen:
        titles = [f"{bare[i]}, without and with the negative prompt {negatives[i]!r}" for i in chosen[:ROWS]]
        rows = [[before[i].image, after[i].image] for i in chosen[:ROWS]]
        save(titled_rows(titles, rows), setup.out / "negative.png")
    chapter = f"negative prompts, {len(chosen)} images that show something unasked"
    return [Metric(chapter, "it is gone with the negative prompt", share, "%", 0.85)]


def size_metrics(setup: Setup) -> list[Metric]:
    r"""Images smaller, larger and not square: is anything in them twice?"""
    targets = set_of_prompts("seen", setup.counts.sizes)
    prompts, judged, rows, titles = [target.prompt for target in targets], [], [], []
    for shape in with_progress(controls.SHAPES, len(controls.SHAPES), "generating (sizes)", "size"):
        width, height = (setup.size * quarters // 4 for quarters in shape)
        images = list(generate_images(setup.model, prompts, size=(width, height)))
        judged += list(judge_images(setup.judge, targets, images))
        rows.append([ImageOps.pad(image, (setup.size,) * 2, color="white") for image in images[:ROWS]])
        titles.append(f"{width} x {height}")
    save(titled_rows(titles, rows), setup.out / "sizes.png")
    chapter = f"sizes, {len(prompts)} prompts in each of {len(titles)}"
    return [Metric(chapter, "no doubled subject", controls.fraction_single(judged), "%", 0.80)]


def attention_metrics(setup: Setup) -> list[Metric]:
    r"""Where the maps fall that the trace and the page of `ldm explore` show."""
    count = setup.counts.attention
    some = attention.examples(setup.tokenizer, count, setup.size)
    masses = attention.measure(setup.model, list(with_progress(some, count, "drawing (attention)")))
    share, everything = masses.share(setup.model.config.map_heads), masses.share()
    chapter = f"attention, {len(masses.area)} words of {count} drawings"
    return [
        Metric(chapter, "share of a word's map in the box of its thing", share, "%"),
        Metric(chapter, "share of the image in that box (chance)", masses.chance, "%"),
        Metric(chapter, "ratio of the two", share / masses.chance, "", 3.0),
        Metric(chapter, "ratio, mean over all heads", everything / masses.chance),
    ]


def diversity_metrics(setup: Setup) -> list[Metric]:
    r"""Many images of one prompt, compared with drawings of the same scene, arranged anew."""
    prompts, each = setup.counts.variety
    ratios: dict[str, list[float]] = {"CLIP": [], "pixels": []}
    suns: list[str] = []
    targets = with_progress(set_of_prompts("seen", prompts), prompts, "generating (variety)")
    for k, target in enumerate(targets):
        assert target.scene is not None
        generators = [np.random.default_rng([SERIES + 4, k, i]) for i in range(each)]
        drawn = to_pixels([draw(arranged(target.scene, rng), rng, setup.size) for rng in generators])
        images = list(generate_images(setup.model, [target.prompt] * each))
        pixels = to_pixels(images)
        for name, features in (
            ("CLIP", [embed_images(setup.clip, some) for some in (pixels, drawn)]),
            ("pixels", [diversity.thumbnails(some) for some in (pixels, drawn)]),
        ):
            ours, theirs = map(diversity.mean_pairwise_distance, features)
            ratios[name].append(ours / theirs)
        if target.scene.sun_is_visible and f"sun {target.scene.sun}" not in target.facts:
            suns += [image.answers["sun"] for image in judge_images(setup.judge, [target] * each, images)]
    chapter = f"diversity, {prompts} prompts x {each} seeds"
    of_drawings = "mean pairwise distance, as a share of the drawings'"
    return [
        Metric(chapter, f"{of_drawings}, CLIP", sum(ratios["CLIP"]) / prompts, "", 0.85),
        Metric(chapter, f"{of_drawings}, pixels", sum(ratios["pixels"]) / prompts),
        Metric(chapter, "sun or moon, left or right: the rarer side", diversity.rarer_side(suns), "%", 0.40),
    ]


def memorisation_metrics(setup: Setup, judged: Sequence[JudgedImage]) -> list[Metric]:
    r"""How near generated images are to training drawings, compared with new drawings; and a sheet of neighbours."""
    count = setup.counts.training
    library = torch.cat(
        [
            diversity.thumbnails(to_pixels([postcard(i, TRAINING_SERIES, diversity.THUMBNAIL).image]))
            for i in with_progress(range(count), count, "drawing (training)")
        ]
    )
    judged = judged[: setup.counts.compared]
    generated = diversity.thumbnails(to_pixels([image.image for image in judged]))
    generators = [np.random.default_rng([SERIES + 6, i]) for i in range(len(judged))]
    drawn = [
        draw(arranged(image.target.scene, rng), rng, setup.size)
        for image, rng in zip(judged, generators, strict=True)
        if image.target.scene
    ]
    indices, _ = diversity.nearest(generated[:16], library)
    twins = [postcard(i, TRAINING_SERIES, setup.size).image for i in indices.tolist()]
    save(paired_rows([image.image for image in judged[:16]], twins), setup.out / "nearest.png")
    ratio = diversity.memorisation_ratio(generated, diversity.thumbnails(to_pixels(drawn)), library)
    chapter = f"memorisation, {len(judged)} images and {count} training drawings"
    return [Metric(chapter, "distance to the nearest one, as a multiple of new drawings'", ratio, "", 0.95)]
