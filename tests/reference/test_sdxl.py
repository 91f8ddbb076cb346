r"""Stable Diffusion XL's golden outputs are what diffusers and transformers answer now."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline

import ldm
from ldm.checkpoints.loaded import LoadedModel
from ldm.checkpoints.validate import configs_of, meta_model
from ldm.checkpoints.write import export
from ldm.diffusion.micro_conditioning import MicroConditioning
from ldm.diffusion.spacing import levels_between
from tests.checkpoints.made import FAMILIES, save, single_file
from tests.golden.compare import assert_same, golden
from tests.golden.make_sdxl import ExactEuler, make_sdxl
from tests.golden.weights import draw

pytestmark = pytest.mark.reference


def test_the_golden_file_is_what_the_reference_answers_now():
    stored, made = golden("sdxl"), make_sdxl()
    assert stored.keys() == made.keys()
    for key in stored:
        # Sinusoids of float32 go into the runs, and there processors may differ in the last bit.
        tolerance = 1e-10 if key.startswith("text/") else 1e-4
        assert_same(made[key].double(), stored[key].double(), tolerance)


def both_ways(folder: Path, family: str, pipeline: Any) -> tuple[LoadedModel, Any]:
    r"""A small model of a family, opened from a single file; and as diffusers opens what is exported of it."""
    config = FAMILIES[family]
    tensors = {
        part: {n: torch.from_numpy(draw(n, p.shape)) for n, p in meta_model(part, sizes).named_parameters()}
        for part, sizes in configs_of(config).items()
    }
    path = save(folder / f"{family}.safetensors", config, single_file(config, tensors))
    export(path, folder / family, "diffusers")
    pipe = pipeline.from_pretrained(folder / family, torch_dtype=torch.float64, add_watermarker=False)
    pipe.scheduler = ExactEuler.from_config(pipe.scheduler.config)
    return ldm.load(path, dtype="float64", device="cpu"), pipe


def test_a_file_written_for_diffusers_makes_the_same_image_there(tmp_path):
    r"""From a single file to a folder, and through both pipelines, tokenizers included."""
    model, pipe = both_ways(tmp_path, "sdxl", StableDiffusionXLPipeline)
    noise = torch.randn(1, 4, 12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = pipe(
        "a red dog, (photo)",
        negative_prompt="do",
        num_inference_steps=4,
        latents=noise.clone(),
        original_size=(100, 90),
        crops_coords_top_left=(3, 1),
        height=24,
        width=16,
        output_type="latent",
    ).images
    micro = MicroConditioning(original_size=(90, 100), crop=(1, 3))
    ours = model.generate(
        "a red dog, (photo)", "do", steps=4, latents=noise, micro=micro, weighting=False, output="latent"
    )
    assert_same(ours, expected, 1e-8)
    # The base model's part of an "ensemble of experts". diffusers' latents are in VE form there.
    expected = pipe("dog", num_inference_steps=4, latents=noise.clone(), denoising_end=0.6, height=24, width=16,
                    output_type="latent").images  # fmt: skip
    ours = model.generate("dog", steps=4, latents=noise, stop=0.6, output="latent")
    level = levels_between(model.levels("euler_leading", 4), 0.0, 0.6, 1000)[-1]
    assert_same(ours / level.alpha, expected, 1e-8)


def test_the_refiner_goes_on_as_in_diffusers(tmp_path):
    r"""With a latent that has noise left in it, a score in place of the target size, and the prompt read once more."""
    refiner, pipe = both_ways(tmp_path, "sdxl-refiner", StableDiffusionXLImg2ImgPipeline)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 12, 8, generator=generator, dtype=torch.float64)
    first = levels_between(refiner.levels("euler_leading", 5), 0.6, 1.0, 1000)[0]
    shared = {"num_inference_steps": 5, "denoising_start": 0.6, "output_type": "latent"}
    expected = pipe("a red dog", negative_prompt="do", image=x / first.alpha, original_size=(24, 16),
                    target_size=(24, 16), **shared).images  # fmt: skip
    ours = refiner.generate("a red dog", "do", steps=5, latents=x, start=0.6, output="latent")
    assert_same(ours, expected, 1e-8)
