r"""Fixtures for the training tests: images, and arithmetic that is the same on every machine."""

import os
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch

from ldm.postcards import postcard
from ldm.train import diffusion
from ldm.train.data import CaptionedImages


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    r"""As on a machine without instructions for bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    r"""Without it, tests that write a checkpoint after every step would wait for the disk hundreds of times."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture(autouse=True)
def one_prompt_is_sampled(monkeypatch):
    r"""At the end of each training run of the U-Net, one prompt instead of six."""
    monkeypatch.setattr(diffusion, "DEMO_PROMPTS", diffusion.DEMO_PROMPTS[:1])


@cache
def _images(count: int, split: str, repeat: int) -> CaptionedImages:
    cards = [postcard(i, seed=4, size=16, split=split) for i in range(count)]
    pixels = np.stack([np.asarray(card.image) for card in cards])
    return CaptionedImages([card.scene for card in cards] * repeat, np.concatenate([pixels] * repeat))


@pytest.fixture
def images() -> Callable[..., CaptionedImages]:
    r"""`images(8)`: the first eight postcards of a series, 16 pixels wide, repeated `repeat` times."""
    return lambda count, split="train", repeat=1: _images(count, split, repeat)
