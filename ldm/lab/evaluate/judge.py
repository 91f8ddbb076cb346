r"""The judge: a small network that looks at a picture and says what it shows, attribute by attribute, and how many.

It has learned from drawings only (see `school.py`), and no painter has ever learned from it: a painter that is
trained on its judge's opinion learns to please the judge, not to paint.

How it can fool you: it answers within its world only. A picture that is half lake and half bear gets a confident
answer to every question, and a fault that no question asks about (a sun in front of a mountain) goes unseen. So
people look at the sheets as well.
"""

from dataclasses import astuple, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

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
SIZE = 128  # pixels along each side of what the judge looks at; other pictures are resized

# Each question with its possible answers: two for every picture, four for landscapes, four for portraits.
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


def answers(scene: Scene, doubled: bool = False) -> dict[str, str]:
    r"""The right answer to every question that makes sense for the scene."""
    kind = "landscape" if isinstance(scene, Landscape) else "portrait"
    named = dict(zip((field.name for field in fields(scene)), astuple(scene), strict=True))
    return {"kind": kind, "count": "doubled" if doubled else "single", **named}


class Judge(nn.Module):
    r"""Strided convolutions from 128 x 128 pixels to 8 x 8 places, then one linear layer a question.

    The last features are summarised by their mean and by their maximum over the places: how much there is of
    something, and whether it is anywhere.
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
        r"""Square pictures in [-1, 1], resized if they are not 128 wide: the logits of each question's answers."""
        if pixels.shape[-1] != SIZE:
            pixels = F.interpolate(pixels, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(-1, 1)
        seen = self.look(pixels)
        summary = torch.cat([seen.mean(dim=(2, 3)), seen.amax(dim=(2, 3))], dim=1)
        return {question: head(summary) for question, head in self.heads.items()}

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @torch.no_grad()
    def examine(self, pixels: Float[Tensor, "b 3 h w"]) -> list[dict[str, str]]:
        r"""The likeliest answer to every question, sensible or not, one dictionary a picture."""
        told = self(pixels.to(self.device))
        chosen = {question: logits.argmax(dim=1).tolist() for question, logits in told.items()}
        return [
            {question: QUESTIONS[question][indices[i]] for question, indices in chosen.items()}
            for i in range(len(pixels))
        ]


def faults(seen: dict[str, str], scene: Scene) -> dict[str, str]:
    r"""Where a picture is not what was asked for: question -> what the judge saw instead.

    A landscape where a portrait was asked for is one fault, of kind, whatever else it shows.
    """
    asked = answers(scene)
    if seen["kind"] != asked["kind"]:
        return {"kind": seen["kind"]}
    return {question: seen[question] for question, right in asked.items() if seen[question] != right}


def find_judge(judge: str | Path) -> Path:
    r"""The judge's folder: a path to it, or its name under `weights/`. Raises `LdmError` that lists where it looked."""
    package = Path(__file__).parents[2]
    places = [Path(judge), *(root / "weights" / judge for root in (Path.cwd(), package.parent, package))]
    for place in places:
        if (place / FILE).is_file():
            return place
    looked = ", ".join(str(place) for place in places)
    raise LdmError(f"no judge: no {FILE} in any of {looked}; train one with `ldm evaluate --train-judge`")


def read_judge(folder: Path) -> Judge:
    r"""The judge in `folder`. Raises `LdmError` if it is missing or damaged."""
    judge, path = Judge(), folder / FILE
    fill(judge, read_tensors(path), path)
    return judge.eval()
