r"""Stable Diffusion XL whole: against diffusers' pipeline, and what a prompt, a size and a crop do to an image."""

import pytest
import torch

from ldm.diffusion.micro_conditioning import MicroConditioning
from ldm.errors import LdmError
from ldm.unet import added, embedding
from tests.golden.compare import assert_same, golden
from tests.golden.sdxl import recorded_sinusoids, small_sdxl

# As in `make_sdxl.py`, but the width first and the left edge first.
IMAGE = MicroConditioning(original_size=(512, 768), crop=(7, 5), target_size=(896, 640))


@pytest.fixture(scope="module")
def model():
    return small_sdxl()


@pytest.fixture
def expected(monkeypatch):
    arrays = golden("sdxl")
    for module in (added, embedding):
        monkeypatch.setattr(module, "timestep_embedding", recorded_sinusoids(arrays))
    return arrays


@pytest.mark.parametrize(
    ("run", "options"),
    [
        ("plain", {"prompt": "red dog"}),
        ("negative", {"prompt": "red dog", "negative": "dog", "micro": IMAGE}),
        ("encoded", {"prompt": "dog", "empty_negative": "encoded"}),
    ],
)
def test_a_whole_run_equals_the_reference(model, expected, run, options):
    x = model.generate(**options, latents=expected["run/noise"], output="latent")
    assert_same(x, expected[f"run/{run}/latents"])


def test_the_decoded_image_equals_the_reference(model, expected):
    assert_same(model.decode_pixels(expected["run/encoded/latents"]), expected["run/pixels"])


@pytest.mark.parametrize(
    "other",
    [
        {"micro": MicroConditioning(original_size=(32, 24))},  # swapped
        {"micro": MicroConditioning(crop=(0, 4))},
        {"micro": MicroConditioning(target_size=(32, 24))},
        {"negative_micro": MicroConditioning(original_size=(8, 8))},
        {"empty_negative": "encoded"},
    ],
)
def test_each_number_and_the_way_with_an_empty_negative_prompt_change_the_image(model, other):
    options = {"prompt": "red dog", "size": (24, 32), "seed": 1, "output": "latent", "steps": 1}
    assert not torch.allclose(model.generate(**options), model.generate(**options, **other), atol=1e-4)


def test_what_is_not_said_is_the_size_generated(model):
    options = {"prompt": "red dog", "size": (24, 32), "seed": 1, "output": "latent", "steps": 1}
    said = MicroConditioning(original_size=(24, 32), crop=(0, 0), target_size=(24, 32))
    assert torch.equal(model.generate(**options), model.generate(**options, micro=said))


def test_an_encoded_prompt_may_bring_its_numbers_and_a_negative_of_many_is_zeroed_image_by_image(model):
    options = {"size": (24, 32), "seed": 1, "output": "latent", "steps": 1}
    both = model.generate(["red dog", "dog"], ["", "dog"], **options | {"seed": [1, 2]})
    torch.testing.assert_close(both[:1], model.generate("red dog", **options), rtol=0, atol=1e-10)
    torch.testing.assert_close(
        both[1:], model.generate("dog", "dog", **options | {"seed": 2}), rtol=0, atol=1e-10
    )
    encoded = model.encode_text(["red dog"])
    torch.testing.assert_close(model.generate(encoded, **options), both[:1], rtol=0, atol=1e-10)


def test_numbers_for_a_model_that_is_not_told_any_are_an_error(randomise):
    from ldm.pipeline import LatentDiffusion
    from tests.small import CONFIG, TOKENIZER

    with pytest.raises(LdmError, match="micro-conditioning for a model without it; leave it out"):
        LatentDiffusion(CONFIG, TOKENIZER).generate("dog", micro=MicroConditioning(crop=(1, 1)))


def test_two_models_that_share_the_sampling_do_what_one_does_alone(model):
    options = {"prompt": "red dog", "size": (24, 32), "seed": 1, "output": "latent", "steps": 5}
    whole = model.generate(**options)
    for share in (0.4, 0.5, 0.8):
        noisy = model.generate(**options, stop=share)
        assert not torch.allclose(noisy, whole, atol=1e-3)
        rest = model.generate(**options | {"seed": None}, latents=noisy, start=share)
        torch.testing.assert_close(rest, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": 0.5}, 'expected `latents` to start from .* output="latent" to stop early'),
        ({"start": 0.5, "output": "latent"}, "expected `latents` to start from"),
        (
            {"start": 0.5, "stop": 0.5, "latents": torch.zeros(1, 4, 8, 8), "output": "latent"},
            "0 <= start < stop <= 1",
        ),
        ({"stop": 0.01, "output": "latent", "steps": 1}, "no timestep lies between 1000 and 990; take more"),
    ],
)
def test_a_part_of_the_sampling_that_cannot_be_is_an_error(model, options, message):
    with pytest.raises(LdmError, match=message):
        model.generate("dog", **options)
