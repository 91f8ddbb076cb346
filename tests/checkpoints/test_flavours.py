r"""Models that want to be sampled in their own way, told by their names."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from ldm.checkpoints.checkpoint import split
from ldm.checkpoints.flavours import FLAVOURS, recognise
from ldm.checkpoints.infer_config import configure
from ldm.diffusion.samplers import find_sampler
from tests.checkpoints.made import FAMILIES, random_tensors, single_file


def file(family):
    return single_file(FAMILIES[family], random_tensors(FAMILIES[family]))


def defaults(name: str, family: str = "sdxl", **said: object) -> tuple[object, ...]:
    found = configure(replace(split(Path(name), file(family)), **said)).defaults
    return found.steps, found.sampler, found.guidance, found.size


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sd_xl_base_1.0.safetensors", (30, "euler_leading", 5.0, 1024)),
        ("sdxl_lightning_4step.safetensors", (4, "euler_trailing", 1.0, 1024)),
        ("sdxl_lightning_8step_unet.safetensors", (8, "euler_trailing", 1.0, 1024)),
        ("sdxl_lightning_2step.safetensors", (2, "euler_trailing", 1.0, 1024)),
        ("juggernautXL_v9Rdphoto2Lightning.safetensors", (6, "dpmpp_sde_karras", 2.0, 1024)),
        ("Hyper-SDXL-8steps-CFG.safetensors", (8, "ddim_trailing", 5.0, 1024)),
        ("Hyper-SDXL-1step-Unet-Comfyui.fp16.safetensors", (1, "lcm", 1.0, 1024)),
        ("dmd2_sdxl_4step_unet_fp16.safetensors", (4, "lcm_trailing", 1.0, 1024)),
        ("someXL_LCM.safetensors", (8, "lcm", 1.0, 1024)),
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


@pytest.mark.parametrize(("family", "size"), [("sd1-lcm", 768), ("sdxl-lcm", 1024)])
def test_a_model_that_reads_the_guidance_scale_is_a_latent_consistency_model_by_its_tensors(
    family, size, caplog
):
    with caplog.at_level(logging.INFO):
        assert defaults("x.safetensors", family) == (4, "lcm", 8.0, size)
    assert "Stable Diffusion" in caplog.text
    assert "by its tensors: by default 4 steps of lcm, guidance 8 (--steps, --sampler" in caplog.text


@pytest.mark.parametrize(("scheduler", "expected"), [("LCM", (8, "lcm", 1.0)), ("TCD", (4, "tcd", 1.0))])
def test_the_scheduler_of_a_folder_tells_what_was_merged_into_it(scheduler, expected, caplog):
    said = {"scheduler": {"_class_name": f"{scheduler}Scheduler"}}
    with caplog.at_level(logging.INFO):
        assert defaults("mine", "sd1", settings=said)[:3] == expected
    assert "by its scheduler: by default" in caplog.text


def test_what_is_one_of_another_family_is_not_taken_for_it():
    assert defaults("pony_turbo_lightning.safetensors", "sd1") == (50, "ddim", 7.5, 512)
    assert defaults("noob_turbo.safetensors", "sd2-base") == (50, "ddim", 7.5, 512)


LORAS = [
    ("sdxl_lightning_4step_lora.safetensors", ("euler_trailing", 4, 1.0)),
    ("sdxl_lightning_8step_lora.safetensors", ("euler_trailing", 8, 1.0)),
    ("lcm-lora-sdxl", ("lcm", 4, 1.0)),
    ("LCM_LoRA_Weights_SD15.safetensors", ("lcm", 4, 1.0)),
    ("Hyper-SDXL-1step-lora.safetensors", ("tcd", 1, 1.0)),
    ("Hyper-SD15-2steps-lora.safetensors", ("ddim_trailing", 2, 1.0)),
    ("Hyper-SDXL-12steps-CFG-lora.safetensors", ("ddim_trailing", 12, 5.0)),
    ("TCD-SDXL-LoRA", ("tcd", 4, 1.0)),
    ("dmd2_sdxl_4step_lora_fp16.safetensors", ("lcm_trailing", 4, 1.0)),
    ("sd_xl_turbo_lora_v1.safetensors", ("euler_ancestral_trailing", 1, 1.0)),
]


@pytest.mark.parametrize(("name", "expected"), LORAS, ids=[name for name, _ in LORAS])
def test_a_lora_for_few_steps_is_known_by_its_name(name, expected):
    found = recognise([("its name", name)], "lora")
    assert (found.flavour.sampler, found.steps, found.flavour.guidance) == expected


@pytest.mark.parametrize(
    "name", ["pony_style.safetensors", "lightning_storm.safetensors", "noob.safetensors", "turbo_car.safetensors",
             "hyperrealism.safetensors", "helmcman.safetensors", "step4.safetensors", ""],
)  # fmt: skip
def test_a_lora_of_a_style_is_none_of_them(name):
    assert recognise([("its name", name)], "lora") is None


def test_a_line_says_what_was_chosen(caplog):
    with caplog.at_level(logging.INFO):
        defaults("ponyDiffusionV6XL.safetensors")
    [line] = [r.getMessage() for r in caplog.records if "by its name" in r.getMessage()]
    assert "Pony Diffusion XL" in line and "25 steps of euler_ancestral, guidance 7 (--steps" in line
    assert "score_9" in line


def test_the_model_of_one_step_of_lightning_predicts_the_image_itself():
    config = configure(split(Path("sdxl_lightning_1step_x0.safetensors"), file("sdxl")))
    assert config.noise.prediction == "x0" and config.defaults.steps == 1


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.pattern)
def test_every_sampler_of_the_list_exists(flavour):
    assert find_sampler(flavour.sampler).name == flavour.sampler
