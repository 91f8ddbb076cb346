r"""Image to image and inpainting, live against diffusers' pipelines: which steps are taken, and what is blended when.

Both sides have the same small networks in float64, the same latent to begin with, and the same noise.
"""

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from unittest import mock

from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
)
from PIL import Image

from ldm.config import Config, Defaults, NoiseConfig, TextConfig
from ldm.convert.rows import from_diffusers, unet_rows, vae_rows
from ldm.pipeline import LatentDiffusion
from ldm.text.tokenizer import Tokenizer
from tests.golden import make
from tests.golden.compare import difference
from tests.unet.test_golden import SIZES as UNETS
from tests.vae.test_golden import SIZES as VAES

pytestmark = pytest.mark.reference

STEPS, GUIDANCE, SEEDS = 10, 3.0, [4, 5]
WIDTH, HEIGHT = 48, 32  # of pixels; four pixels a latent
SCHEDULERS = {
    "ddim": lambda **o: DDIMScheduler(steps_offset=1, set_alpha_to_one=False, **o),
    "ddpm": lambda **o: DDPMScheduler(**o),
}


@pytest.fixture(scope="module")
def networks():
    unet = make.randomise(make.unet(**make.UNET_SIZES["tiny"]).double())
    return unet, make.randomise(make.vae(**make.VAE_SIZES["tiny"]).double())


@pytest.fixture(scope="module")
def model(networks):
    tokenizer = Tokenizer([("r", "e"), ("re", "d</w>")], context_length=6)
    config = Config(
        name="small",
        text=TextConfig(tokenizer.vocab_size, 6, width=24, layers=1, heads=2, activation="quick_gelu"),
        vae=VAES["tiny"],
        unet=UNETS["tiny"],
        noise=NoiseConfig(),
        defaults=Defaults(size=32),
    )
    model = LatentDiffusion(config, tokenizer).double()
    unet, vae = networks
    rows = unet_rows(config.unet, linear_projection=False)
    model.unet.load_state_dict(from_diffusers(unet.state_dict(), rows))
    model.vae.load_state_dict(from_diffusers(vae.state_dict(), vae_rows(config.vae)))
    return model.eval().requires_grad_(False)


def theirs(kind, networks, sampler, noise, **options):
    r"""The finished latents of diffusers; each of its draws is the next one of `noise`."""
    unet, vae = networks
    scheduler = SCHEDULERS[sampler](beta_schedule="scaled_linear", clip_sample=False, **make.BETAS)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    if sampler == "ddim":
        scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    parts = {"text_encoder": None, "tokenizer": None, "safety_checker": None, "feature_extractor": None}
    pipeline = kind(vae=vae, unet=unet, scheduler=scheduler, requires_safety_checker=False, **parts)
    pipeline.set_progress_bar_config(disable=True)
    with (
        mock.patch(f"{kind.__module__}.randn_tensor", lambda *_, **__: noise()),
        mock.patch(f"{type(scheduler).__module__}.randn_tensor", lambda *_, **__: noise()),
    ):
        return pipeline(
            num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="latent", **options
        ).images


def ours(model, sampler, noise, cond, uncond, x0, strength, mask=None):
    path = model.path(STEPS, sampler, strength)
    latent, project = model.begin(noise(), sampler, path, x0, mask, strength)
    denoise = model.denoiser(cond, uncond, GUIDANCE)
    for step in model.sample(latent, denoise, noise, sampler, path, project):
        latent = step.x_prev
    return project(latent, torch.tensor(1.0, dtype=torch.float64))


def inputs():
    cond, uncond = make.numbers(11, 2, 6, 24), make.numbers(12, 2, 6, 24)
    # In float32's numbers: diffusers takes a picture to be inpainted through them.
    return cond, uncond, make.numbers(13, 1, 4, HEIGHT // 4, WIDTH // 4).float().double()


@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.15, 0.6, 0.79, 1.0])
def test_image_to_image_equals_diffusers(model, networks, sampler, strength):
    cond, uncond, x0 = inputs()
    expected = theirs(
        StableDiffusionImg2ImgPipeline,
        networks,
        sampler,
        model.noise(SEEDS, (WIDTH, HEIGHT)),
        image=x0.expand(2, -1, -1, -1),
        strength=strength,
        prompt_embeds=cond,
        negative_prompt_embeds=uncond,
    )
    got = ours(model, sampler, model.noise(SEEDS, (WIDTH, HEIGHT)), cond, uncond, x0, strength)
    assert difference(got, expected) <= 1e-8


@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.15, 0.6, 1.0])
def test_inpainting_equals_diffusers(model, networks, sampler, strength):
    cond, uncond, x0 = inputs()
    mask = Image.new("L", (WIDTH, HEIGHT))
    mask.paste(255, (8, 4, 28, 20))  # on whole latents: where it is not, diffusers looks at one pixel of each
    expected = theirs(
        StableDiffusionInpaintPipeline,
        networks,
        sampler,
        model.noise(SEEDS, (WIDTH, HEIGHT)),
        image=x0.expand(2, -1, -1, -1),
        mask_image=mask,
        masked_image_latents=x0.expand(2, -1, -1, -1),  # for U-Nets of nine channels; this one has four
        width=WIDTH,
        height=HEIGHT,
        strength=strength,
        prompt_embeds=cond,
        negative_prompt_embeds=uncond,
    )
    got = ours(model, sampler, model.noise(SEEDS, (WIDTH, HEIGHT)), cond, uncond, x0, strength, mask)
    assert difference(got, expected) <= 1e-8
    kept = torch.ones(HEIGHT // 4, WIDTH // 4, dtype=torch.bool)
    kept[1:5, 2:7] = False
    assert torch.equal(got[..., kept], x0.expand_as(got)[..., kept])
