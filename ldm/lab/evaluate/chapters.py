r"""The chapters of the report: each measures one thing, writes its sheet, and returns its figures."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldm.images.pixels import to_images, to_pixels
from ldm.lab.evaluate import adherence, diversity, understanding
from ldm.lab.evaluate.adherence import Painted, asks, judged, paint
from ldm.lab.evaluate.bench import SERIES, Bench, Drawings, save, watched
from ldm.lab.evaluate.clipscore import clip_score
from ldm.lab.evaluate.figures import Figure
from ldm.lab.evaluate.frechet import frechet_distance
from ldm.lab.evaluate.images import over_and_under, psnr, ssim
from ldm.lab.evaluate.judge import QUESTIONS, SIZE, Judge, answers
from ldm.lab.evaluate.judge_training import lesson
from ldm.lab.evaluate.sheets import captioned, similarity_grid
from ldm.lab.evaluate.understanding import embed_captions, embed_pictures
from ldm.pipeline import LatentDiffusion
from ldm.postcards import caption, draw, postcard
from ldm.text.clip import CLIP
from ldm.text.image import fit

TRAINING_SERIES = 0  # of the postcards that the shipped model was trained on
GOALS = {"seen": 0.99, "held-out": 0.97, "french": 0.97, "wordings": 0.97}


def accuracy(
    judge: Judge, pixels: Float[Tensor, "n 3 s s"], told: Sequence[dict[str, str]]
) -> dict[str, float]:
    r"""How often the judge's answer is right, one share a question, over the pictures of which it is asked."""
    hits: dict[str, list[bool]] = {question: [] for question in QUESTIONS}
    for start in range(0, len(told), 100):
        for seen, right in zip(judge.examine(pixels[start : start + 100]), told[start : start + 100]):
            for question, answer in right.items():
                hits[question].append(seen[question] == answer)
    return {question: sum(h) / len(h) for question, h in hits.items() if h}


def judge_figures(bench: Bench, rebuilt: Drawings) -> list[Figure]:
    r"""The judge's own accuracy: on drawings it has never seen, and on `rebuilt` ones, which went through the VAE."""
    count = bench.counts.lessons
    lessons = [lesson(i, SERIES + 1) for i in range(count)]
    drawn = [
        draw(scene, rng, SIZE, doubled) for scene, doubled, rng in watched(lessons, count, "drawing (judge)")
    ]
    told = [answers(scene, doubled) for scene, doubled, _ in lessons]
    chapters = {
        "the judge, on drawings of all combinations, many of them doubled": accuracy(
            bench.judge, to_pixels(drawn), told
        ),
        "the judge, on the VAE's reconstructions of held-out combinations": accuracy(
            bench.judge, rebuilt.pixels, [answers(scene) for scene in rebuilt.scenes]
        ),
    }
    goals = dict.fromkeys(chapters, 0.99) | {list(chapters)[1]: None}
    return [
        Figure(chapter, question, share, "%", goals[chapter])
        for chapter, shares in chapters.items()
        for question, share in shares.items()
    ]


@torch.no_grad()
def reconstruct(model: LatentDiffusion, drawn: Drawings, batch: int = 50) -> Drawings:
    r"""Through the VAE and back, without the encoder's noise; as pictures are saved, in 8 bits a colour."""
    parts = []
    for part in watched(drawn.pixels.split(batch), -(-len(drawn.scenes) // batch), "reconstructing", "batch"):
        mean, _ = model.vae.encode(part.to(model.device))
        parts.append(to_pixels(to_images(model.vae.decode(mean))))
    return Drawings(drawn.scenes, torch.cat(parts))


def vae_figures(bench: Bench, drawn: Drawings, rebuilt: Drawings) -> list[Figure]:
    r"""How sharp pictures come back from the latent space."""
    sheet = over_and_under(to_images(drawn.pixels[:16]), to_images(rebuilt.pixels[:16]))
    save(sheet, bench.out / "reconstructions.png")
    chapter = "the VAE, on held-out combinations"
    pairs = list(zip(drawn.pixels.split(50), rebuilt.pixels.split(50), strict=True))
    decibels, structure = (
        torch.cat([measure(a, b) for a, b in pairs]).mean().item() for measure in (psnr, ssim)
    )
    return [Figure(chapter, "PSNR", decibels, "dB", 28.0), Figure(chapter, "SSIM", structure)]


def clip_figures(bench: Bench, seen: Drawings, held_out: Drawings) -> list[Figure]:
    r"""What CLIP understands of drawings that it was not trained on."""
    figures = []
    directions = understanding.scene_directions(bench.clip, bench.tokenizer)
    scale = bench.clip.logit_scale.exp().item()
    for name, some in (("seen", seen), ("held-out", held_out)):
        rng = np.random.default_rng([SERIES, len(name)])
        captions = [caption(scene, rng, partial=False) for scene in some.scenes]
        images = embed_pictures(bench.clip, some.pixels)
        texts = embed_captions(bench.clip, bench.tokenizer, captions)
        chapter = f"CLIP, new drawings of {name} combinations"
        shares = understanding.zero_shot(images, some.scenes, directions, scale)
        figures += [Figure(chapter, f"zero-shot: {q}", share, "%", 0.98) for q, share in shares.items()]
        found = understanding.retrieval(images, texts, some.scenes)
        figures.append(Figure(chapter, "retrieval among 256", found, "%", 0.95))
        if name == "seen":
            cosines = (images[:8] @ texts[:8].T).cpu().numpy()
            sheet = similarity_grid(to_images(some.pixels[:8]), captions[:8], cosines)
            save(sheet, bench.out / "similarity.png")
    return figures


def paint_set(bench: Bench, name: str) -> list[Painted]:
    r"""Paint the prompts of one set, seeds 0, 1, 2, ..., and judge them; a sheet shows all that went wrong."""
    wanted = asks(name, bench.counts.prompts)
    images = paint(bench.model, [ask.prompt for ask in wanted], range(len(wanted)))
    painted = list(watched(judged(bench.judge, wanted, images), len(wanted), f"painting ({name})"))
    wrong = [picture for picture in painted if picture.faults]
    if wrong:
        sheet = captioned([picture.image for picture in wrong], [adherence.fault_caption(p) for p in wrong])
        save(sheet, bench.out / f"failures-{name}.png")
    return painted


def adherence_figures(name: str, painted: Sequence[Painted]) -> list[Figure]:
    r"""How often the model paints what it is asked, and what goes wrong when it does not."""
    chapter = f"adherence, {name}: {len(painted)} prompts"
    figures = [Figure(chapter, "every attribute right", adherence.share_right(painted), "%", GOALS[name])]
    by_question = adherence.share_by_question(painted)
    figures += [Figure(chapter, f"wrong: {question}", share, "%") for question, share in by_question.items()]
    if name == "seen":
        figures.append(Figure(chapter, "shuffled prompts (the floor)", adherence.shuffled(painted), "%"))
    return figures


def crowd_figures(bench: Bench, painted: Sequence[Painted]) -> list[Figure]:
    r"""Painted pictures as a crowd, beside drawings of the same scenes; and how well they fit their prompts."""
    crowds = {"painted": to_pixels([picture.image for picture in painted])}
    for k, name in enumerate(("drawn", "drawn again")):
        generators = [np.random.default_rng([SERIES + 2 + k, i]) for i in range(len(painted))]
        pictures = [draw(p.ask.scene, rng, bench.size) for p, rng in zip(painted, generators)]
        crowds[name] = to_pixels(pictures)
    states = {name: class_states(bench.clip, pixels) for name, pixels in crowds.items()}
    images = {name: embed_pictures(bench.clip, pixels) for name, pixels in crowds.items()}
    texts = embed_captions(bench.clip, bench.tokenizer, [p.ask.prompt for p in painted])
    chapter = f"crowds of {len(painted)} pictures"
    pairs = (("painted", "drawn"), ("drawn", "drawn again"))
    figures = [
        Figure(chapter, f"Frechet distance, {a} and {b}", frechet_distance(states[a], states[b]))
        for a, b in pairs
    ]
    scores = {
        "painted": clip_score(images["painted"], texts),
        "drawn": clip_score(images["drawn"], texts),
        "painted, next prompt": clip_score(images["painted"], texts.roll(-1, 0)),
    }
    return figures + [Figure(chapter, f"CLIP score, {name}", s.mean().item()) for name, s in scores.items()]


@torch.no_grad()
def class_states(clip: CLIP, pixels: Float[Tensor, "n 3 h w"], batch: int = 100) -> Float[Tensor, "n d"]:
    r"""The state of CLIP's class token, before the projection: what the Frechet distance compares."""
    device = clip.logit_scale.device
    return torch.cat([clip.image(fit(part.to(device), clip.image_size)) for part in pixels.split(batch)])


def diversity_figures(bench: Bench, painted: Sequence[Painted]) -> list[Figure]:
    r"""Many pictures of one prompt, and the nearest drawings of the training beside painted ones."""
    prompts, each = bench.counts.variety
    spread: dict[str, list[float]] = {"CLIP": [], "pixels": []}
    for k, ask in enumerate(watched(asks("seen", prompts), prompts, "painting (variety)")):
        images = list(paint(bench.model, [ask.prompt] * each, range(each)))
        drawn = [draw(ask.scene, np.random.default_rng([SERIES + 4, k, i]), bench.size) for i in range(each)]
        for name, measure in (("CLIP", bench.clip), ("pixels", None)):
            features = [
                embed_pictures(measure, to_pixels(some)) if measure else diversity.thumbnails(to_pixels(some))
                for some in (images, drawn)
            ]
            ours, theirs = (diversity.mean_pairwise_distance(f) for f in features)
            spread[name].append(ours / theirs)
    nearest_sheet(bench, painted[: bench.counts.neighbours])
    chapter = f"diversity, {prompts} prompts x {each} seeds, as a share of the drawings'"
    goals = {"CLIP": 0.8, "pixels": None}
    return [
        Figure(chapter, f"mean pairwise distance, {name}", sum(ratios) / len(ratios), "", goals[name])
        for name, ratios in spread.items()
    ]


def nearest_sheet(bench: Bench, painted: Sequence[Painted]) -> None:
    r"""Each painted picture over the drawing of the training that is nearest to it, in 32 x 32 pixels."""
    count = bench.counts.training
    library = [
        diversity.thumbnails(to_pixels([postcard(i, TRAINING_SERIES, diversity.THUMBNAIL).image]))
        for i in watched(range(count), count, "drawing (training)")
    ]
    images = [picture.image for picture in painted]
    indices, _ = diversity.nearest(diversity.thumbnails(to_pixels(images)), torch.cat(library))
    twins = [postcard(i, TRAINING_SERIES, bench.size).image for i in indices.tolist()]
    save(over_and_under(images, twins), bench.out / "nearest.png")
