r"""The judge: a small classifier that answers every question about an image (`QUESTIONS` in `ldm.postcards`).

It is trained on drawings only (see `judge_training.py`), and no generator is trained on it: never optimise against the
metric.

How it can mislead you: it knows only its own world. It answers every question confidently about an image that is half
lake and half bear, and it misses an error that no question covers (a sun in front of a mountain). So look at the sheets
as well.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.checkpoints.finding import weights_folders
from ldm.checkpoints.folder import fill, read_tensors
from ldm.errors import LdmError
from ldm.postcards import QUESTIONS

FILE = "judge.safetensors"
SIZE = 128  # the side in pixels of the judge's input; other images are resized
HIDDEN = 512
# The bands of columns that features are pooled over, as shares of the width: the whole image and its thirds, because
# many questions ask what stands left or right of something.
BANDS = ((0.0, 1.0), (0.0, 0.375), (0.3125, 0.6875), (0.625, 1.0))


class Judge(nn.Module):
    r"""Strided convolutions from 128 x 128 pixels to 8 x 8 positions, a hidden layer, then a linear layer per question.

    The last features are pooled over the image and over each of its thirds, by their mean (how much there is of
    something) and their maximum (whether it is anywhere).
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
        self.hidden = nn.Linear(2 * len(BANDS) * channels[-1], HIDDEN)
        self.heads = nn.ModuleDict(
            {question: nn.Linear(HIDDEN, len(choices)) for question, choices in QUESTIONS.items()}
        )

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b _"]]:
        r"""The logits of each question's answers for images in [-1, 1], resized to 128 x 128 if they are not."""
        if pixels.shape[-2:] != (SIZE, SIZE):
            pixels = F.interpolate(pixels, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(-1, 1)
        features = self.look(pixels)
        width = features.shape[-1]
        bands = [features[..., int(left * width) : round(right * width)] for left, right in BANDS]
        pooled = [pool(dim=(2, 3)) for band in bands for pool in (band.mean, band.amax)]
        hidden = F.silu(self.hidden(torch.cat(pooled, dim=1)))
        return {question: head(hidden) for question, head in self.heads.items()}

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
