r"""The measurements of the report: each computes some metrics and may write a sheet."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldm.images.pixels import to_images, to_pixels
from ldm.lab.evaluate import adherence, understanding
from ldm.lab.evaluate.adherence import (
    MEASURED_SERIES,
    JudgedImage,
    generate_images,
    judge_images,
    set_of_prompts,
)
from ldm.lab.evaluate.clipscore import clip_score
from ldm.lab.evaluate.frechet import frechet_distance
from ldm.lab.evaluate.judge import SIZE, Judge
from ldm.lab.evaluate.judge_training import example
from ldm.lab.evaluate.metrics import Metric
from ldm.lab.evaluate.reconstruction import psnr, ssim
from ldm.lab.evaluate.setup import SERIES, Drawings, Setup, save, with_progress
from ldm.lab.evaluate.sheets import captioned, paired_rows
from ldm.lab.evaluate.understanding import embed_captions, embed_images
from ldm.pipeline import LatentDiffusion
from ldm.postcards import QUESTIONS, caption, draw, labels
from ldm.text.clip import CLIP
from ldm.text.image import preprocess_pixels
from ldm.train.plot import plot_similarity

GOALS = {"seen": 0.97, "held-out": 0.93, "french": 0.95, "wordings": 0.93, "natural": 0.93, "typos": 0.80}
TOPIC_GOAL = 0.90  # of counts, sides, colours and garments
FLAWLESS_GOAL = 0.98


def accuracy(
    judge: Judge, pixels: Float[Tensor, "n 3 s s"], correct: Sequence[dict[str, str]]
) -> dict[str, float]:
    r"""The judge's accuracy for each question, over the images to which it applies."""
    hits: dict[str, list[bool]] = {question: [] for question in QUESTIONS}
    for start in range(0, len(correct), 100):
        part = slice(start, start + 100)
        for answers, right in zip(judge.predict(pixels[part]), correct[part]):
            for question, answer in right.items():
                hits[question].append(answers[question] == answer)
    return {question: sum(h) / len(h) for question, h in hits.items() if h}


def judge_metrics(setup: Setup, rebuilt: Drawings) -> list[Metric]:
    r"""The judge's own accuracy on new drawings, and on `rebuilt` ones, which went through the VAE."""
    count = setup.counts.examples
    examples = [example(i, SERIES + 1) for i in range(count)]
    bar = with_progress(examples, count, "drawing (judge)")
    pixels = to_pixels([draw(scene, rng, SIZE, flaw) for scene, flaw, rng in bar])
    on_drawings = accuracy(setup.judge, pixels, [labels(scene, flaw) for scene, flaw, _ in examples])
    on_rebuilt = accuracy(setup.judge, rebuilt.pixels, [labels(scene) for scene in rebuilt.scenes])
    new = "the judge, on drawings of all combinations, some of them flawed"
    vae = "the judge, on the VAE's reconstructions of held-out combinations"
    metrics = [Metric(new, question, share, "%", 0.99) for question, share in on_drawings.items()]
    return metrics + [Metric(vae, question, share, "%") for question, share in on_rebuilt.items()]


@torch.no_grad()
def reconstruct(model: LatentDiffusion, drawn: Drawings, batch: int = 50) -> Drawings:
    r"""Encode to the mean and decode, with 8 bits per channel as in a saved image."""
    parts = []
    batches = with_progress(
        drawn.pixels.split(batch), -(-len(drawn.scenes) // batch), "reconstructing", "batch"
    )
    for part in batches:
        mean, _ = model.vae.encode(part.to(model.device))
        parts.append(to_pixels(to_images(model.vae.decode(mean))))
    return Drawings(drawn.scenes, torch.cat(parts))


def vae_metrics(setup: Setup, drawn: Drawings, rebuilt: Drawings) -> list[Metric]:
    r"""The quality of the VAE's reconstructions."""
    sheet = paired_rows(to_images(drawn.pixels[:16]), to_images(rebuilt.pixels[:16]))
    save(sheet, setup.out / "reconstructions.png")
    chapter = "the VAE, on held-out combinations"
    pairs = list(zip(drawn.pixels.split(50), rebuilt.pixels.split(50), strict=True))
    decibels, similarity = (
        torch.cat([measure(a, b) for a, b in pairs]).mean().item() for measure in (psnr, ssim)
    )
    return [Metric(chapter, "PSNR", decibels, "dB", 34.0), Metric(chapter, "SSIM", similarity, "", 0.97)]


def clip_metrics(setup: Setup, seen: Drawings, held_out: Drawings) -> list[Metric]:
    r"""CLIP's zero-shot accuracy and retrieval on new drawings."""
    metrics = []
    candidates = understanding.candidate_scenes()
    directions = understanding.scene_directions(setup.clip, setup.tokenizer, candidates)
    scale = setup.clip.logit_scale.exp().item()
    for k, (name, some) in enumerate((("seen", seen), ("held-out", held_out))):
        rng = np.random.default_rng([SERIES + 8, k])
        captions = [caption(scene, rng, partial=False, mistakes=False) for scene in some.scenes]
        images = embed_images(setup.clip, some.pixels)
        texts = embed_captions(setup.clip, setup.tokenizer, captions)
        chapter = f"CLIP, new drawings of {name} combinations"
        shares = understanding.zero_shot(images, some.scenes, directions, scale, candidates)
        metrics += [Metric(chapter, f"zero-shot: {q}", share, "%", 0.98) for q, share in shares.items()]
        found = understanding.retrieval(images, texts, some.scenes)
        metrics.append(Metric(chapter, "retrieval among 256", found, "%", 0.95))
        if name == "seen":
            cosines = texts[:8] @ images[:8].T
            plot_similarity(to_images(some.pixels[:8]), captions[:8], cosines, setup.out / "similarity.png")
    return metrics


def generate_set(setup: Setup, name: str) -> list[JudgedImage]:
    r"""Generate the prompts of one set with the seeds 0, 1, 2, ... and judge them; a sheet shows all errors."""
    targets = set_of_prompts(name, setup.counts.prompts, MEASURED_SERIES)
    images = generate_images(setup.model, [target.prompt for target in targets])
    judged = judge_images(setup.judge, targets, images)
    result = list(with_progress(judged, len(targets), f"generating ({name})"))
    wrong = [image for image in result if image.missing]
    if wrong:
        sheet = captioned([image.image for image in wrong], [adherence.error_caption(i) for i in wrong])
        save(sheet, setup.out / f"failures-{name}.png")
    return result


def adherence_metrics(name: str, judged: Sequence[JudgedImage]) -> list[Metric]:
    r"""How often the image shows what the prompt describes, and what is wrong if not."""
    chapter = f"adherence, {name}: {len(judged)} prompts"
    correct, goal = adherence.fraction_correct(judged), GOALS.get(name)
    metrics = [Metric(chapter, "every attribute right", correct, "%", goal)]
    scores = adherence.topic_scores(judged)
    metrics += [Metric(chapter, f"shown: {topic}", share, "%", TOPIC_GOAL) for topic, share in scores.items()]
    if name == "seen":
        baseline = adherence.shuffled_baseline(judged)
        metrics.append(Metric(chapter, "shuffled prompts (the floor)", baseline, "%"))
    return metrics


def composition_metrics(judged: Sequence[JudgedImage]) -> list[Metric]:
    r"""What is hardest to compose, and what looks wrong even if everything asked for is there."""
    chapter = f"composition, {len(judged)} images of all sets"
    metrics = [
        Metric(chapter, name, s, "%", TOPIC_GOAL) for name, s in adherence.composition_scores(judged).items()
    ]
    return metrics + [
        Metric(chapter, name, s, "%", FLAWLESS_GOAL) for name, s in adherence.flawless_scores(judged).items()
    ]


def distribution_metrics(setup: Setup, judged: Sequence[JudgedImage]) -> list[Metric]:
    r"""The distribution of generated images compared with drawings of the same scenes, and their CLIP scores."""
    sets = {"generated": to_pixels([image.image for image in judged])}
    for k, name in enumerate(("drawn", "drawn again")):
        generators = [np.random.default_rng([SERIES + 2 + k, i]) for i in range(len(judged))]
        pairs = zip(judged, generators)
        sets[name] = to_pixels(
            [draw(image.target.scene, rng, setup.size) for image, rng in pairs if image.target.scene]
        )
    features = {name: class_tokens(setup.clip, pixels) for name, pixels in sets.items()}
    images = {name: embed_images(setup.clip, pixels) for name, pixels in sets.items()}
    texts = embed_captions(setup.clip, setup.tokenizer, [image.target.prompt for image in judged])
    chapter = f"distributions of {len(judged)} images"
    metrics = [
        Metric(chapter, f"Frechet distance, {a} and {b}", frechet_distance(features[a], features[b]))
        for a, b in (("generated", "drawn"), ("drawn", "drawn again"))
    ]
    scores = {
        "generated": clip_score(images["generated"], texts),
        "drawn": clip_score(images["drawn"], texts),
        "generated, next prompt": clip_score(images["generated"], texts.roll(-1, 0)),
    }
    return metrics + [Metric(chapter, f"CLIP score, {name}", s.mean().item()) for name, s in scores.items()]


@torch.no_grad()
def class_tokens(clip: CLIP, pixels: Float[Tensor, "n 3 h w"], batch: int = 100) -> Float[Tensor, "n d"]:
    r"""The state of CLIP's class token before the projection: the features of our Frechet distance."""
    device = clip.logit_scale.device
    return torch.cat(
        [clip.image(preprocess_pixels(part.to(device), clip.image_size)) for part in pixels.split(batch)]
    )
