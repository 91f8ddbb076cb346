r"""A small model and a recording of two images."""

import pytest

from ldm.lab.trace.recorder import record
from ldm.pipeline import LatentDiffusion
from tests.small import CONFIG, TOKENIZER


@pytest.fixture
def model(randomise):
    return randomise(LatentDiffusion(CONFIG, TOKENIZER)).float()


@pytest.fixture
def recorded(model):
    r"""A recording of three steps, and its two images, 24 x 16 pixels: latents of 12 x 8."""
    with record(model, "red ox") as recording:
        images = model.generate("red ox", seed=7, steps=3, size=(24, 16), batch=2, progress=recording.watch())
    return recording, images
