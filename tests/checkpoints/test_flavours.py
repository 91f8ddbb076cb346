r"""Models that want to be sampled in their own way, told by their names."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from ldm.checkpoints.checkpoint import split
from ldm.checkpoints.flavours import FLAVOURS
from ldm.checkpoints.infer_config import configure
from ldm.diffusion.samplers import find_sampler
from tests.checkpoints.made import FAMILIES, random_tensors, single_file

FILES = {name: single_file(FAMILIES[name], random_tensors(FAMILIES[name])) for name in ("sdxl", "sd2-base")}


def defaults(name: str, family: str = "sdxl", **said: object) -> tuple[object, ...]:
    found = configure(replace(split(Path(name), FILES[family]), **said)).defaults
    return found.steps, found.sampler, found.guidance, found.size


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sd_xl_base_1.0.safetensors", (30, "euler_leading", 5.0, 1024)),
        ("sdxl_lightning_4step.safetensors", (4, "euler_trailing", 1.0, 1024)),
        ("sdxl_lightning_8step_unet.safetensors", (8, "euler_trailing", 1.0, 1024)),
        ("sd_xl_turbo_1.0_fp16.safetensors", (1, "euler_ancestral_trailing", 1.0, 512)),
        ("sdxl-turbo", (1, "euler_ancestral_trailing", 1.0, 512)),
        ("dreamshaperXL_v21Turbo.safetensors", (8, "dpmpp_sde_karras", 2.0, 1024)),
        ("NoobAI-XL-v1.1.safetensors", (28, "euler_ancestral", 5.5, 1024)),
        ("NoobAI-XL-Vpred-v1.0.safetensors", (28, "euler_trailing", 4.5, 1024)),
        ("Illustrious-XL-v0.1.safetensors", (28, "euler_ancestral", 6.0, 1024)),
        ("ponyDiffusionV6XL_v6.safetensors", (25, "euler_ancestral", 7.0, 1024)),
        ("models--stabilityai--sdxl-turbo/snapshots/71153311d3dbb46851df1931d3ca6e939de83304", (
            1, "euler_ancestral_trailing", 1.0, 512)),
        ("paradigm_shift.safetensors", (30, "euler_leading", 5.0, 1024)),
    ],
)  # fmt: skip
def test_a_name_tells_how_a_model_is_to_be_sampled(name, expected):
    assert defaults(name) == expected


def test_the_title_in_the_metadata_tells_as_well_and_a_size_that_is_said_stays():
    assert defaults("x.safetensors", metadata={"modelspec.title": "SDXL Turbo"})[3] == 512
    said = {"modelspec.title": "SDXL Turbo", "modelspec.resolution": "768x768"}
    assert defaults("x.safetensors", metadata=said) == (1, "euler_ancestral_trailing", 1.0, 768)


def test_so_does_the_name_that_diffusers_wrote_into_a_folder():
    said = {"": {"_name_or_path": "stabilityai/sdxl-turbo"}}
    assert defaults("mine", settings=said)[:2] == (1, "euler_ancestral_trailing")


def test_sd_turbo_is_one_of_stable_diffusion_2():
    assert defaults("sd_turbo.safetensors", "sd2-base") == (1, "euler_ancestral_trailing", 1.0, 512)


def test_a_line_says_what_was_chosen(caplog):
    with caplog.at_level(logging.INFO):
        defaults("ponyDiffusionV6XL.safetensors")
    [line] = [r.getMessage() for r in caplog.records if "by its name" in r.getMessage()]
    assert "Pony Diffusion XL" in line and "25 steps of euler_ancestral, guidance 7 (--steps" in line
    assert "score_9" in line


def test_the_model_of_one_step_of_lightning_predicts_the_image_itself():
    config = configure(split(Path("sdxl_lightning_1step_x0.safetensors"), FILES["sdxl"]))
    assert config.noise.prediction == "x0" and config.defaults.steps == 1


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.pattern)
def test_every_sampler_of_the_list_exists(flavour):
    assert find_sampler(flavour.sampler).name == flavour.sampler
