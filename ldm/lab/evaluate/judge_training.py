r"""Train the judge on drawings of the whole world, held-out combinations included, some of them with a flaw.

The drawings come from a series of their own, which no generator is trained on. They are augmented with blur, shifts and
noise, so that the judge tolerates the soft edges of generated images.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ldm.checkpoints.folder import write_tensors
from ldm.lab.evaluate.judge import FILE, SIZE, Judge
from ldm.postcards import FLAWS, QUESTIONS, Scene, draw, labels, sample_scene
from ldm.train.data import draw_once, drawing_code
from ldm.train.loop import Recipe, mixed_precision, train

EXAMPLES, SERIES = 30_000, 77  # the number of drawings, and their series
HELD_OUT, FLAWED = 0.15, 0.5  # the fractions of drawings of held-out combinations, and with a flaw
FLAW_QUESTIONS, FLAW_WEIGHT = ("uniform wall", "eyes match"), 4.0  # a flaw changes few pixels
RECIPE = Recipe(steps=6000, batch=64, lr=1.5e-3, warmup=200, ema=0.995, weight_decay=0.05)


def example(index: int, series: int = SERIES) -> tuple[Scene, str, np.random.Generator]:
    r"""The scene of drawing `index` of a series, its flaw ("" for none), and the generator to draw it with."""
    rng = np.random.default_rng([series, index])
    scene = sample_scene(rng, "held_out" if rng.random() < HELD_OUT else "train")
    flaw = FLAWS[rng.integers(len(FLAWS))] if rng.random() < FLAWED else ""
    asked = {"mottled wall": "uniform wall", "odd eyes": "eyes match"}
    if flaw and asked[flaw] not in labels(scene):  # there is no wall, or no animal
        flaw = ""
    return scene, flaw, rng


def draw_examples(path: Path, count: int, series: int = SERIES) -> UInt8[np.ndarray, "n s s 3"]:
    r"""The first `count` drawings of a series, read from the file at `path` if they were drawn before."""
    return draw_once(path, partial(_draw, series=series), count, (SIZE, SIZE, 3), "drawing (judge)")


def _draw(index: int, series: int) -> np.ndarray:
    scene, flaw, rng = example(index, series)
    return np.asarray(draw(scene, rng, SIZE, flaw))


def label_indices(examples: list[tuple[Scene, str]]) -> dict[str, Int[Tensor, "n"]]:
    r"""For each question the indices of the correct answers, -1 where the question does not apply."""
    correct = [labels(scene, flaw) for scene, flaw in examples]
    return {
        question: torch.tensor([choices.index(c[question]) if question in c else -1 for c in correct])
        for question, choices in QUESTIONS.items()
    }


def augment(pixels: Float[Tensor, "b 3 s s"], generator: torch.Generator) -> Float[Tensor, "b 3 s s"]:
    r"""Random changes that leave the content as it is: blur, shift, contrast, brightness, noise."""
    size = pixels.shape[-1]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    if uniform(0.0, 1.0).item() < 0.6:
        coarse = int(uniform(0.4, 1.0).item() * size)
        pixels = F.interpolate(pixels, (coarse, coarse), mode="bilinear", antialias=True)
        pixels = F.interpolate(pixels, (size, size), mode="bicubic")
    left, top = torch.randint(0, 9, (2,), generator=generator).tolist()
    pixels = F.pad(pixels, (4, 4, 4, 4), mode="replicate")[..., top : top + size, left : left + size]
    contrast, brightness = (
        uniform(0.92, 1.08, len(pixels), 1, 1, 1),
        uniform(-0.06, 0.06, len(pixels), 1, 1, 1),
    )
    noise = torch.randn(pixels.shape, generator=generator) * uniform(0.0, 0.08, len(pixels), 1, 1, 1)
    return (pixels * contrast + brightness + noise).clamp(-1, 1)


def judge_loss(
    judge: Judge, pixels: Float[Tensor, "b 3 s s"], correct: dict[str, Int[Tensor, "b"]]
) -> Float[Tensor, ""]:
    r"""The sum of the cross-entropies of all questions, each averaged over the images to which it applies.

    A question that applies to few images of a batch has a noisy average, and counts less: by the root of their share.
    """
    with mixed_precision():
        logits = judge(pixels.to(judge.device))
    loss = torch.zeros((), device=judge.device)
    for question, indices in correct.items():
        if (indices >= 0).any():
            answers = logits[question].float()
            share = (indices >= 0).float().mean().item()
            weight = share**0.5 * (FLAW_WEIGHT if question in FLAW_QUESTIONS else 1.0)
            loss = loss + weight * F.cross_entropy(answers, indices.to(judge.device), ignore_index=-1)
    return loss


def train_judge(
    folder: Path,
    run: Path,
    recipe: Recipe = RECIPE,
    count: int = EXAMPLES,
    seed: int = 0,
    resume: bool = False,
) -> Judge:
    r"""Train the judge from scratch and write it to `folder`; `run` keeps the drawings, the log and the checkpoint.

    The name of the drawings' file has a hash of the code that draws them: after a change they are drawn again.
    """
    path = run / f"judge-{SERIES}-{count}-{drawing_code()}.npy"
    drawings = draw_examples(path, count)
    correct = label_indices([example(i)[:2] for i in range(count)])
    torch.manual_seed(seed)
    judge = Judge()

    def loss_at(step: int) -> Tensor:
        indices = np.random.default_rng([seed, step]).integers(count, size=recipe.batch)
        chosen = rearrange(torch.from_numpy(drawings[indices]), "b h w c -> b c h w")
        pixels = chosen.contiguous().float() / 127.5 - 1
        generator = torch.Generator().manual_seed(seed * 10**9 + step)
        return judge_loss(judge, augment(pixels, generator), {q: t[indices] for q, t in correct.items()})

    average = train(judge, loss_at, recipe, run, resume, identity={"seed": seed, "drawings": path.stem})
    write_tensors(folder / FILE, average.state_dict())
    return average
