r"""What the tests of training share: pictures, and arithmetic that is the same on every machine."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch

from ldm.postcards import postcard
from ldm.train.data import Pictures


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    r"""As on a machine without matrix units for bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)


@cache
def _pictures(count: int, split: str, repeat: int) -> Pictures:
    cards = [postcard(i, seed=4, size=16, split=split) for i in range(count)]
    pixels = np.stack([np.asarray(card.image) for card in cards])
    return Pictures([card.scene for card in cards] * repeat, np.concatenate([pixels] * repeat))


@pytest.fixture
def pictures() -> Callable[..., Pictures]:
    r"""`pictures(8)`: the first eight of a series of postcards, 16 pixels wide; as often as `repeat` says."""
    return lambda count, split="train", repeat=1: _pictures(count, split, repeat)
