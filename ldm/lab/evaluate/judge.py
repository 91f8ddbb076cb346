r"""The judge: a small classifier that predicts every attribute of an image, and whether an object appears twice.

It is trained on drawings only (see `judge_training.py`), and no generator is trained on it: never optimise against the
metric.

How it can mislead you: it knows only its own world. It answers every question confidently about an image that is half
lake and half bear, and it misses an error that no question covers (a sun in front of a mountain). So look at the sheets
as well.
"""

from dataclasses import astuple, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.checkpoints.finding import weights_folders
from ldm.checkpoints.folder import fill, read_tensors
from ldm.errors import LdmError
from ldm.postcards import Landscape, Scene
from ldm.postcards.attributes import (
    ACCESSORIES,
    ANIMALS,
    BACKGROUNDS,
    FEATURES,
    FURS,
    PLACES,
    RELIEFS,
    TIMES,
)

FILE = "judge.safetensors"
SIZE = 128  # the side in pixels of the judge's input; other images are resized

# Each question with its possible answers: two for every image, four for landscapes, four for portraits.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "kind": ("landscape", "portrait"),
    "count": ("single", "doubled"),
    "place": PLACES,
    "relief": RELIEFS,
    "time": TIMES,
    "feature": FEATURES,
    "animal": ANIMALS,
    "fur": FURS,
    "accessory": ACCESSORIES,
    "background": BACKGROUNDS,
}


def correct_answers(scene: Scene, doubled: bool = False) -> dict[str, str]:
    r"""The correct answer to every question that applies to the scene."""
    kind = "landscape" if isinstance(scene, Landscape) else "portrait"
    named = dict(zip((field.name for field in fields(scene)), astuple(scene), strict=True))
    return {"kind": kind, "count": "doubled" if doubled else "single", **named}


class Judge(nn.Module):
    r"""Strided convolutions from 128 x 128 pixels to 8 x 8 positions, then one linear layer per question.

    The last features are pooled by their mean (how much there is of something) and their maximum (whether it is
    anywhere).
    """

    def __init__(self, channels: tuple[int, ...] = (64, 128, 192)):
        super().__init__()
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(zip((3, *channels), channels)):
            down = (
                nn.Conv2d(before, after, 3, stride=2, padding=1)
                if i
                else nn.Conv2d(3, after, 8, 4, padding=2)
            )
            for conv in (down, nn.Conv2d(after, after, 3, padding=1)):
                layers += [conv, nn.GroupNorm(8, after), nn.SiLU()]
        self.look = nn.Sequential(*layers)
        self.heads = nn.ModuleDict(
            {question: nn.Linear(2 * channels[-1], len(choices)) for question, choices in QUESTIONS.items()}
        )

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b _"]]:
        r"""The logits of each question's answers for square images in [-1, 1], resized if they are not 128 wide."""
        if pixels.shape[-1] != SIZE:
            pixels = F.interpolate(pixels, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(-1, 1)
        features = self.look(pixels)
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        return {question: head(pooled) for question, head in self.heads.items()}

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @torch.no_grad()
    def predict(self, pixels: Float[Tensor, "b 3 h w"]) -> list[dict[str, str]]:
        r"""The most likely answer to every question, whether it applies or not, in a dictionary for each image."""
        logits = self(pixels.to(self.device))
        chosen = {question: values.argmax(dim=1).tolist() for question, values in logits.items()}
        return [
            {question: QUESTIONS[question][indices[i]] for question, indices in chosen.items()}
            for i in range(len(pixels))
        ]


def wrong_answers(answers: dict[str, str], scene: Scene) -> dict[str, str]:
    r"""The judge's answers that differ from the correct ones for `scene`.

    A landscape instead of a portrait is one error, of kind, whatever else it shows.
    """
    correct = correct_answers(scene)
    if answers["kind"] != correct["kind"]:
        return {"kind": answers["kind"]}
    return {question: answers[question] for question, right in correct.items() if answers[question] != right}


def find_judge(judge: str | Path) -> Path:
    r"""The judge's folder, from its path or its name under `weights/`. Raises `LdmError` with the places searched."""
    places = [Path(judge), *(folder / judge for folder in weights_folders())]
    for place in places:
        if (place / FILE).is_file():
            return place
    searched = ", ".join(str(place) for place in places)
    raise LdmError(f"no judge: no {FILE} in any of {searched}; train one with `ldm evaluate --train-judge`")


def read_judge(folder: Path) -> Judge:
    r"""The judge in `folder`. Raises `LdmError` if it is missing or damaged."""
    judge, path = Judge(), folder / FILE
    fill(judge, read_tensors(path), path)
    return judge.eval()
