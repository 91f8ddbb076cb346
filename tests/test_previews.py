r"""Previews: one for each step, of the estimate of x0, without a change to what is generated."""

import pytest
import torch

from ldm.hires import generate_large
from ldm.images.pixels import to_images
from ldm.pipeline import LatentDiffusion
from ldm.previews import previews
from tests.small import CONFIG, TOKENIZER

OPTIONS = {"steps": 3, "sampler": "euler", "seed": 7, "size": (8, 8)}


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return LatentDiffusion(CONFIG, TOKENIZER).eval().requires_grad_(False)


def test_each_step_is_shown_in_turn_and_the_last_estimate_is_the_image(model):
    shown, estimates = [], []

    def decode(x0):
        estimates.append(x0)
        return model.decode(x0)

    progress = previews(decode, lambda *what: shown.append(what))
    images = model.generate("red dog", batch=2, progress=progress, **OPTIONS)
    assert [n for n, _ in shown] == [1, 2, 3] and len({x0.sum().item() for x0 in estimates}) == 3
    assert [i.tobytes() for i in shown[-1][1]] == [
        i.tobytes() for i in images
    ]  # Euler ends at its last estimate
    plain = model.generate("red dog", batch=2, **OPTIONS)
    assert [i.tobytes() for i in plain] == [i.tobytes() for i in images]


def test_the_first_is_the_estimate_from_pure_noise(model):
    first = []
    progress = previews(lambda x0: first.append(x0) or [], lambda *_: None)
    model.generate("red dog", progress=progress, guidance=1.0, **OPTIONS)
    levels = model.levels("euler", 3)
    x = model.initial_latents("euler", model.noise_source([7], (8, 8))(), levels)
    x0, _ = model.denoiser(model.encode_text(["red dog"]), None, 1.0)(x, levels[0])
    torch.testing.assert_close(first[0], x0)


def test_it_passes_the_steps_on_and_counts_on_in_the_second_pass(model):
    seen, shown = [], []

    def bar(steps, total):
        seen.append(total)
        return steps

    progress = previews(
        lambda x0: to_images(model.vae.decode(x0)), lambda n, i: shown.append((n, i[0].size)), bar
    )
    generate_large(model, "red dog", strength=0.7, progress=progress, **OPTIONS)
    assert seen == [3, 2]
    assert shown == [(1, (8, 8)), (2, (8, 8)), (3, (8, 8)), (4, (16, 16)), (5, (16, 16))]
