r"""Models and LoRAs for few steps, live: opened by their names alone, and diffusers as their model cards say."""

from pathlib import Path

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
)
from safetensors.torch import save_file

import ldm
from ldm.checkpoints.validate import configs_of, meta_model
from ldm.checkpoints.write import export
from tests.checkpoints.made import FAMILIES, save, single_file
from tests.golden import loras
from tests.golden.compare import assert_same, golden
from tests.golden.few_steps import with_noise
from tests.golden.make_few_steps import DDIM, exact, make_few_steps
from tests.golden.weights import draw

pytestmark = pytest.mark.reference

TRAILING = {"timestep_spacing": "trailing"}
X0 = TRAILING | {"prediction_type": "sample"}
FOUR = {"num_inference_steps": 4, "guidance_scale": 0}
ONE = {"num_inference_steps": 1, "guidance_scale": 0}
# The name of the file, the family, and what the model's card has diffusers do; None: the scheduler of the folder.
MODELS = [
    ("dreamshaper_lcm", "sd1-lcm", None, {"num_inference_steps": 4, "guidance_scale": 8.0}),
    ("any", "sdxl-lcm", None, {"num_inference_steps": 4, "guidance_scale": 8.0}),
    ("sd_turbo", "sd2-base", (EulerAncestralDiscreteScheduler, TRAILING), ONE),
    ("sd_xl_turbo_1.0", "sdxl", (EulerAncestralDiscreteScheduler, TRAILING), ONE),
    ("sdxl_lightning_4step", "sdxl", (EulerDiscreteScheduler, TRAILING), FOUR),
    ("sdxl_lightning_1step_x0", "sdxl", (EulerDiscreteScheduler, X0), ONE),
    ("Hyper-SDXL-8steps-CFG", "sdxl", (DDIMScheduler, TRAILING | DDIM), {
        "num_inference_steps": 8, "guidance_scale": 5.0}),
    ("sdxl_tcd", "sdxl", (TCDScheduler, {}), FOUR | {"eta": 0.3}),
]  # fmt: skip
LORAS = [
    ("lcm-lora-sdv1-5", "sd1", (LCMScheduler, {}), FOUR),
    ("lcm-lora-sdxl", "sdxl", (LCMScheduler, {}), FOUR),
    ("sdxl_lightning_2step_lora", "sdxl", (EulerDiscreteScheduler, TRAILING), ONE | {"num_inference_steps": 2}),
    ("Hyper-SD15-4steps-lora", "sd1", (DDIMScheduler, TRAILING | DDIM), FOUR),
    ("Hyper-SDXL-1step-lora", "sdxl", (TCDScheduler, {}), ONE | {"eta": 1.0}),
    ("TCD-SDXL-LoRA", "sdxl", (TCDScheduler, {}), FOUR | {"eta": 0.3}),
    ("dmd2_sdxl_4step_lora", "sdxl", (LCMScheduler, {}), {
        "timesteps": [999, 749, 499, 249], "guidance_scale": 0}),
]  # fmt: skip


def made(folder: Path, name: str, family: str) -> tuple[Path, DiffusionPipeline]:
    r"""A file of a small model, and diffusers' pipeline of the same weights."""
    config = FAMILIES[family]
    tensors = {
        part: {n: torch.from_numpy(draw(n, p.shape)) for n, p in meta_model(part, sizes).named_parameters()}
        for part, sizes in configs_of(config).items()
    }
    path = save(folder / f"{name}.safetensors", config, single_file(config, tensors))
    export(path, folder / "theirs", "diffusers")
    more = {"add_watermarker": False} if config.unet.added else {"safety_checker": None}
    pipe = DiffusionPipeline.from_pretrained(folder / "theirs", torch_dtype=torch.float64, **more)
    pipe.set_progress_bar_config(disable=True)
    return path, pipe


def compared(model, pipe, scheduler, options) -> None:
    if scheduler is None:
        pipe.scheduler = exact(pipe.scheduler)
    else:
        build, settings = scheduler
        pipe.scheduler = exact(build.from_config(pipe.scheduler.config, **settings))
    noise = torch.randn(1, 4, 12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = pipe(
        "a red dog, (photo)",
        **options,
        latents=noise.clone(),
        height=24,
        width=16,
        output_type="latent",
    ).images
    with_noise(model, noise.shape)
    assert_same(
        model.generate("a red dog, (photo)", latents=noise, weighting=False, output="latent"), expected, 1e-8
    )


@pytest.mark.parametrize(
    ("name", "family", "scheduler", "options"), MODELS, ids=[name for name, *_ in MODELS]
)
def test_a_model_opened_by_its_name_makes_the_image_of_its_card(tmp_path, name, family, scheduler, options):
    path, pipe = made(tmp_path, name, family)
    compared(ldm.load(path, dtype="float64", device="cpu"), pipe, scheduler, options)


@pytest.mark.parametrize(("name", "family", "scheduler", "options"), LORAS, ids=[name for name, *_ in LORAS])
def test_a_lora_loaded_by_its_name_makes_the_image_of_its_card(tmp_path, name, family, scheduler, options):
    path, pipe = made(tmp_path, "base", family)
    shapes = {key: tensor.shape for key, tensor in pipe.unet.state_dict().items()}
    file = loras.kohya(loras.make_lora(shapes, rank=2), "lora_unet_", alpha=0.5)
    save_file({key: tensor.contiguous() for key, tensor in file.items()}, tmp_path / f"{name}.safetensors")
    pipe.load_lora_weights(file)
    pipe.unet.double()
    model = ldm.load(path, dtype="float64", device="cpu")
    assert model.load_lora(tmp_path / f"{name}.safetensors").unused == ()
    compared(model, pipe, scheduler, options)


def test_the_golden_file_is_what_the_reference_answers_now():
    stored, now = golden("few_steps"), make_few_steps()
    assert stored.keys() == now.keys()
    for key in stored:
        # Sinusoids of float32 go into the runs, and there processors may differ in the last bit.
        assert_same(now[key].double(), stored[key].double(), 1e-4)
