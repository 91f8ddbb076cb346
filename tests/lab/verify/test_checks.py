r"""What is computed, and which numbers of it are compared."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from ldm.errors import LdmError
from ldm.lab.verify.checks import compute, latent, parse_slices
from ldm.lab.verify.inputs import missing_files
from ldm.lab.verify.references import Reference
from ldm.loading import load
from tests.cli.test_lora import write_lora
from tests.golden.few_steps import few_step_model
from tests.golden.sdxl import small_sdxl
from tests.small import write_small_model


def test_a_part_is_read_as_python_would():
    numbers = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    assert torch.equal(numbers[parse_slices("-1, -2:, :2, -2:")], numbers[-1, -2:, :2, -2:])
    assert torch.equal(numbers[parse_slices("0, -3:, 1:3, -1")], numbers[0, -3:, 1:3, -1])


@pytest.mark.parametrize("part", ["", "a", "1.5", "1, ,"])
def test_a_part_of_anything_but_numbers_is_an_error(part):
    with pytest.raises(ValueError):
        parse_slices(part)


def test_only_the_image_of_the_slice_is_computed_and_it_is_the_right_one(build, recorded):
    model, seen = build(), []
    model.vae.decoder.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    reference = next(reference for reference in recorded.references if reference.component == "vae.decode")
    last, first = (
        compute(model, reference),
        compute(model, replace(reference, part=reference.part.replace("-1", "0", 1))),
    )
    assert seen == [1, 1] and last != first
    latent = torch.from_numpy(np.random.RandomState(13).standard_normal((3, 4, 8, 8)))
    whole = model.vae.decode(0.18215 * latent)[-1, -2:, :2, -2:]
    assert last == pytest.approx(whole.flatten().tolist(), abs=1e-10)


def test_computing_leaves_gradients_alone(build, recorded):
    reference = next(reference for reference in recorded.references if reference.component == "latent")
    model = build().requires_grad_(True)
    compute(model, reference)
    assert torch.is_grad_enabled() and all(p.grad is None for p in model.parameters())


def test_an_unknown_component_is_an_error(build, recorded):
    with pytest.raises(LdmError, match="'ears'; expected one of vae.decode, "):
        compute(build(), replace(recorded.references[0], component="ears"))


def test_the_latent_of_a_model_that_is_told_sizes_and_of_one_that_is_told_the_guidance_is_that_of_generate():
    xl, told = small_sdxl(), few_step_model(told=True)
    noise = torch.randn(1, 4, 16, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    plain = {"prompt": "red dog", "sampler": "euler_leading", "steps": 2, "guidance": 5.0}
    whole = xl.generate(**plain, latents=noise, output="latent")
    torch.testing.assert_close(latent(xl, noise, **plain, after=2), whole, rtol=0, atol=1e-10)
    drawn, lcm = torch.Generator().manual_seed(7), plain | {"sampler": "lcm"}

    def noise_source(seeds, size):  # what is drawn first is the initial noise, which is given
        more = iter(lambda: torch.randn(noise.shape, generator=drawn).double(), None)
        numbers = chain([noise], more)
        return lambda *_: next(numbers)

    object.__setattr__(told, "noise_source", noise_source)
    found = latent(told, noise, **lcm, after=2, noise_seed=7)
    whole = told.generate(**lcm, latents=noise, output="latent")
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-10)
    assert not torch.equal(found, latent(told, noise, **lcm, after=2, noise_seed=8))


def test_a_lora_is_merged_for_its_figure_alone(tmp_path, monkeypatch):
    model = load(write_small_model(tmp_path / "model"))
    write_lora(tmp_path / "ink.safetensors", 1)
    recipe = {"from": "torch", "seed": 0, "shape": [1, 4, 8, 8]}
    inputs = {"x_T": recipe, "prompt": "dog", "sampler": "ddim", "steps": 1}
    plain = Reference("a", ("b",), (), 1.0, "tests/", "image", inputs, "0, -3:, -3:, -1")
    drawn = replace(plain, inputs=inputs | {"lora": {"from": "lora", "name": "ink.safetensors"}})
    assert missing_files(drawn.inputs, None) == ["ink.safetensors"]
    assert missing_files(drawn.inputs, tmp_path) == []
    before = compute(model, plain)
    assert compute(model, drawn, tmp_path) != before
    assert compute(model, plain) == before and model.loras == ()
