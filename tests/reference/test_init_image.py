r"""Image to image and inpainting, live against diffusers' pipelines: which steps are taken, and what is blended when.

Both sides have the same small networks in float64, the same latent to begin with, and the same noise.
"""

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from dataclasses import replace
from functools import wraps
from unittest import mock

import numpy as np
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
)
from PIL import Image

from ldm.checkpoints.key_map import unet_rows, vae_rows
from ldm.config import Config, Defaults, NoiseConfig, TextConfig
from ldm.diffusion.conditioning import Conditioning
from ldm.diffusion.level import CLEAN
from ldm.image_to_image import InitImage
from ldm.inpaint import restore_kept
from ldm.pipeline import LatentDiffusion
from ldm.text.tokenizer import Tokenizer
from tests.golden import make
from tests.golden.clip_rows import from_diffusers
from tests.golden.compare import difference
from tests.unet.test_golden import SIZES as UNETS
from tests.vae.test_golden import SIZES as VAES

pytestmark = pytest.mark.reference

STEPS, GUIDANCE, SEEDS = 10, 3.0, [4, 5]
WIDTH, HEIGHT = 48, 32  # of pixels; four pixels a latent
SCHEDULERS = {
    "ddim": lambda **o: DDIMScheduler(steps_offset=1, set_alpha_to_one=False, clip_sample=False, **o),
    "ddpm": lambda **o: DDPMScheduler(clip_sample=False, **o),
    **make.SOLVERS,
}
TOLERANCE = 1e-8
# diffusers blends between the two evaluations of a step, too: of each of Heun's, and of PLMS's first.
BLENDED = [name for name in SCHEDULERS if name not in ("heun", "plms")]


@pytest.fixture(scope="module")
def networks():
    unet = make.randomise(make.unet(**make.UNET_SIZES["tiny"]).double())
    unet.register_to_config(sample_size=64)  # the pipelines want to know
    return unet, make.randomise(make.vae(**make.VAE_SIZES["tiny"]).double())


def small(unet, vae, in_channels=4):
    tokenizer = Tokenizer([("r", "e"), ("re", "d</w>")], context_length=6)
    config = Config(
        name="small",
        text=TextConfig(tokenizer.vocab_size, 6, width=24, layers=1, heads=2, activation="quick_gelu"),
        vae=VAES["tiny"],
        unet=replace(UNETS["tiny"], in_channels=in_channels),
        noise=NoiseConfig(),
        defaults=Defaults(size=32),
    )
    model = LatentDiffusion(config, tokenizer).double()
    rows = unet_rows(config.unet, linear_projection=False)
    model.unet.load_state_dict(from_diffusers(unet.state_dict(), rows))
    model.vae.load_state_dict(from_diffusers(vae.state_dict(), vae_rows(config.vae)))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model(networks):
    return small(*networks)


def without_float32(method):
    @wraps(method)
    def call(*args, **options):
        with make.no_float32():
            return method(*args, **options)

    return call


def in_float64(scheduler):
    r"""The scheduler with the float32 tables made float64, and all that it computes from them."""
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    if hasattr(scheduler, "final_alpha_cumprod"):
        scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    for name in ("set_timesteps", "scale_model_input", "add_noise", "step"):
        setattr(scheduler, name, without_float32(getattr(scheduler, name)))
    return scheduler


def begin_anew(pipeline):
    r"""Let a pipeline that begins in the middle of its timesteps do there what it does at the start.

    Left alone, diffusers' LMS takes the weights of four directions at once, though it remembers only one; and its PNDM
    does not evaluate at the second timestep twice, so that from the third evaluation on the latent has one step more of
    noise than the network is told. Ours begin anew wherever they begin: with one direction, and with two evaluations.
    """
    scheduler = pipeline.scheduler
    step = scheduler.step

    def lms_step(*args, **options):
        return step(*args, **options, order=min(len(scheduler.derivatives) + 1, 4))

    def plms_timesteps(num_inference_steps, strength, device):
        left = int(num_inference_steps * strength)
        grid = torch.cat([scheduler.timesteps[:1], scheduler.timesteps[2:]])[num_inference_steps - left :]
        return torch.cat([grid[:2], grid[1:]]), left

    if isinstance(scheduler, make.SOLVERS["lms"]):
        scheduler.step = wraps(step)(lms_step)
    elif isinstance(scheduler, PNDMScheduler):
        pipeline.get_timesteps = plms_timesteps


def theirs(kind, networks, sampler, noise_fn, steps=STEPS, guidance=GUIDANCE, anew=True, **options):
    r"""The finished latents of diffusers, and what its network was told; its draws are those of `noise_fn`."""
    unet, vae = networks
    common = {"beta_schedule": "scaled_linear", **make.BETAS}
    parts = {"text_encoder": None, "tokenizer": None, "safety_checker": None, "feature_extractor": None}
    parts["scheduler"] = SCHEDULERS["ddim"](**common)
    pipeline = kind(vae=vae, unet=unet, requires_safety_checker=False, **parts)
    # Only now: handed to the pipeline, DDPM's would be given DDIM's offset.
    pipeline.scheduler = scheduler = in_float64(SCHEDULERS[sampler](**common))
    pipeline.set_progress_bar_config(disable=True)
    if anew:
        begin_anew(pipeline)
    told: list[float] = []
    hook = unet.register_forward_pre_hook(lambda _, args: told.append(float(args[1])))
    module = kind.__module__
    draws = iter([noise_fn() for _ in range(steps + 1)])  # now, while float32 is float32
    with (
        mock.patch(f"{module}.randn_tensor", lambda *_, **__: next(draws)),
        mock.patch(f"{type(scheduler).__module__}.randn_tensor", lambda *_, **__: next(draws), create=True),
        # The mean, as ours: no sample.
        mock.patch(f"{module}.retrieve_latents", lambda out, **_: out.latent_dist.mode()),
    ):
        out = pipeline(
            num_inference_steps=steps, guidance_scale=guidance, output_type="latent", **options
        ).images
    hook.remove()
    return out, told


def ours(model, sampler, noise_fn, cond, uncond, start, strength, steps=STEPS, guidance=GUIDANCE):
    levels = model.levels(sampler, steps, strength)
    noise = noise_fn()
    latent = model.initial_latents(sampler, noise, levels, start, strength)
    on_step = restore_kept(start, noise, model.vae.factor)
    channels = None if start is None else start.channels
    denoise = model.denoiser(Conditioning(cond, channels), Conditioning(uncond, channels), guidance)
    told: list[float] = []
    hook = model.unet.register_forward_pre_hook(lambda _, args: told.append(args[1].item()))
    for step in model.sample(sampler, denoise, latent, levels, noise_fn, on_step):
        latent = step.x_prev
    hook.remove()
    return on_step(latent, CLEAN), told


def inputs():
    cond, uncond = make.numbers(11, 2, 6, 24), make.numbers(12, 2, 6, 24)
    # In float32's numbers: diffusers takes a picture to be inpainted through them.
    return cond, uncond, make.numbers(13, 1, 4, HEIGHT // 4, WIDTH // 4).float().double()


@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.15, 0.6, 0.79, 1.0])
def test_image_to_image_equals_diffusers(model, networks, sampler, strength):
    cond, uncond, x0 = inputs()
    expected, expected_told = theirs(
        StableDiffusionImg2ImgPipeline,
        networks,
        sampler,
        model.noise_source(SEEDS, (WIDTH, HEIGHT)),
        image=x0.expand(2, -1, -1, -1),
        strength=strength,
        prompt_embeds=cond,
        negative_prompt_embeds=uncond,
    )
    start = InitImage(Image.new("RGB", (WIDTH, HEIGHT)), x0)
    got, told = ours(
        model, sampler, model.noise_source(SEEDS, (WIDTH, HEIGHT)), cond, uncond, start, strength
    )
    assert told == pytest.approx(expected_told, abs=1e-3)  # the same start, and as many evaluations
    assert difference(got, expected) <= TOLERANCE


@pytest.mark.parametrize("sampler", ["plms", "lms"])
def test_left_alone_diffusers_does_something_else_in_the_middle(model, networks, sampler):
    r"""Why `begin_anew` is there; at strength 1 it changes nothing."""
    cond, uncond, x0 = inputs()
    for strength, same in ((1.0, True), (0.6, False)):
        (begun, told), (alone, told_alone) = (
            theirs(
                StableDiffusionImg2ImgPipeline,
                networks,
                sampler,
                model.noise_source(SEEDS, (WIDTH, HEIGHT)),
                anew=anew,
                image=x0.expand(2, -1, -1, -1),
                strength=strength,
                prompt_embeds=cond,
                negative_prompt_embeds=uncond,
            )
            for anew in (True, False)
        )
        assert torch.equal(begun, alone) is same
        if sampler == "plms" and not same:
            assert told == [501, 401, 401, 301, 201, 101, 1]
            assert told_alone == [601, 501, 401, 301, 201, 101, 1]


@pytest.mark.parametrize("sampler", BLENDED)
@pytest.mark.parametrize("strength", [0.15, 0.6, 1.0])
def test_inpainting_equals_diffusers(model, networks, sampler, strength):
    cond, uncond, x0 = inputs()
    mask = Image.new("L", (WIDTH, HEIGHT))
    mask.paste(255, (8, 4, 28, 20))  # on whole latents: where it is not, diffusers looks at one pixel of each
    expected, _ = theirs(
        StableDiffusionInpaintPipeline,
        networks,
        sampler,
        model.noise_source(SEEDS, (WIDTH, HEIGHT)),
        image=x0.expand(2, -1, -1, -1),
        mask_image=mask,
        masked_image_latents=x0.expand(2, -1, -1, -1),  # for U-Nets of nine channels; this one has four
        width=WIDTH,
        height=HEIGHT,
        strength=strength,
        prompt_embeds=cond,
        negative_prompt_embeds=uncond,
    )
    start = InitImage(Image.new("RGB", (WIDTH, HEIGHT)), x0, mask)
    got, _ = ours(model, sampler, model.noise_source(SEEDS, (WIDTH, HEIGHT)), cond, uncond, start, strength)
    assert difference(got, expected) <= TOLERANCE
    kept = torch.ones(HEIGHT // 4, WIDTH // 4, dtype=torch.bool)
    kept[1:5, 2:7] = False
    assert torch.equal(got[..., kept], x0.expand_as(got)[..., kept])


@pytest.mark.parametrize("sampler", ["ddim", "plms", "dpmpp_2m", "euler"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_an_inpainting_model_equals_diffusers(networks, sampler, strength):
    r"""Nine channels, 20 steps, guidance 7.5, from a picture and a mask whose edges do not lie on latents."""
    unet = make.randomise(make.unet(**make.UNET_SIZES["tiny"], in_channels=9).double())
    unet.register_to_config(sample_size=64)
    model = small(unet, networks[1], in_channels=9)
    cond, uncond, _ = inputs()
    # Black and white in each channel: of others the two programs round 2 x / 255 - 1 in another order.
    colours = 255 * np.random.RandomState(14).randint(0, 2, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    picture, mask = Image.fromarray(colours), Image.new("L", (WIDTH, HEIGHT))
    mask.paste(255, (7, 5, 30, 18))
    options = {"steps": 20, "guidance": 7.5}
    expected, expected_told = theirs(
        StableDiffusionInpaintPipeline,
        (unet, networks[1]),
        sampler,
        model.noise_source(SEEDS, (WIDTH, HEIGHT)),
        **options,
        image=picture,
        mask_image=mask,
        width=WIDTH,
        height=HEIGHT,
        strength=strength,
        prompt_embeds=cond,
        negative_prompt_embeds=uncond,
    )
    start = model.init_image(picture, mask, (WIDTH, HEIGHT))
    noise_fn = model.noise_source(SEEDS, (WIDTH, HEIGHT))
    got, told = ours(model, sampler, noise_fn, cond, uncond, start, strength, **options)
    assert told == pytest.approx(expected_told, abs=1e-3)
    assert difference(got, expected) <= TOLERANCE
