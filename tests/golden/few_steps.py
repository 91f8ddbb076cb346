r"""The small models of `make_few_steps.py`, as ours, with the noise that it gives the samplers."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import numpy as np
import torch
from torch import Tensor

from ldm.config import Config
from ldm.pipeline import LatentDiffusion
from tests.golden.sdxl import CONFIG, UNET, small_sdxl

TOLD_UNET = replace(UNET, guidance_width=12)
FIRST_NOISE = 3000


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))


def few_step_model(told: bool = False, prediction: str = "eps") -> LatentDiffusion:
    noise = replace(CONFIG.noise, prediction=prediction)
    config: Config = replace(CONFIG, unet=TOLD_UNET if told else UNET, noise=noise)
    return small_sdxl(config)


def with_noise(model: LatentDiffusion, shape: tuple[int, ...]) -> None:
    r"""Let the samplers add the reference's noise. (What is drawn first is the initial noise, which is given.)"""
    drawn = count(FIRST_NOISE - 1)
    object.__setattr__(model, "noise_source", lambda seeds, size: lambda *_: numbers(next(drawn), *shape))


def looked_up(arrays: dict[str, Tensor]) -> Callable[[Tensor, int], Tensor]:
    r"""Takes the place of `guidance_embedding`: float32, and so in the last bit up to the processor."""

    def look_up(w: Tensor, width: int) -> Tensor:
        known = arrays["guidance/of"].tolist()
        return torch.stack([arrays["guidance"][known.index(value)] for value in w.tolist()])

    return look_up
