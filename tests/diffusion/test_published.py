r"""The figures that diffusers' own tests hold its schedulers to, reproduced without diffusers and without weights.

Their "model" answers x t / (t + 1) for a latent x that rises evenly from 0 to 1, on a linear schedule; what is
published is the sum (for DPM++ the mean) of the absolute values at the end. Source: diffusers, tests/schedulers.
"""

import itertools

import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import CLEAN, vp_level
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.samplers.ddim import ddim
from ldm.diffusion.samplers.ddpm import ddpm
from ldm.diffusion.samplers.dpmpp_2m import dpmpp_2m
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import initial_latents, sampler_levels, spaced_levels, spaced_timesteps

LATENT = (torch.arange(768, dtype=torch.float64) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)


def schedule(steps):
    return make_alpha_bar(NoiseConfig(steps, "linear", 0.0001, 0.02)).double()


def denoiser(prediction_type="eps", clip=False):
    def denoise(x, level):
        x0, eps = x0_and_eps(prediction_type, x * level.t / (level.t + 1), x, level)
        return (x0.clamp(-1, 1) if clip else x0), eps

    return denoise


def noise_of_seed_0():
    generator = torch.Generator().manual_seed(0)
    return lambda: torch.randn(LATENT.shape, generator=generator).double()


def end(steps):
    *_, last = steps
    return last.x_prev.abs()


def levels_from_0(count):
    alpha_bar = schedule(1000)
    return [*spaced_levels(spaced_timesteps(count, 1000, "leading_from_0"), alpha_bar), CLEAN]


@pytest.mark.parametrize(("prediction_type", "published"), [("eps", 172.0067), ("v", 52.5302)])
def test_ddim(prediction_type, published):
    steps = sample(ddim, denoiser(prediction_type, clip=True), LATENT, levels_from_0(10), noise_of_seed_0())
    assert end(steps).sum().item() == pytest.approx(published, abs=1e-3)


def test_ddpm():
    steps = sample(ddpm, denoiser(clip=True), LATENT, levels_from_0(1000), noise_of_seed_0())
    assert end(steps).sum().item() == pytest.approx(258.9606, abs=1e-2)


@pytest.mark.parametrize(
    ("name", "published", "tolerance"),
    [
        ("euler", 10.0807, 1e-3),
        ("euler_karras", 124.523, 1e-2),
        ("euler_ancestral", 152.3192, 1e-2),
        ("heun", 0.1233, 1e-3),
        ("lms", 1006.388, 1e-2),
    ],
)
def test_k_diffusions_samplers(name, published, tolerance):
    r"""Their tests put x, what the network reads, in the place of y = x / alpha before each step (`sample =
    scale_model_input(sample)`), which no pipeline does: y becomes x = alpha y. So we shrink by that, too, after each
    step, and show the network y. Heun's second evaluation is at a latent that is not kept: there it reads x, as it
    should.
    """
    sampler, alpha_bar, evaluations = SAMPLERS[name], schedule(1100), itertools.count()
    levels = sampler_levels(sampler, 10, alpha_bar)

    def shrink(x, level):
        return level.alpha * x

    def denoise(x, level):
        second = name == "heun" and next(evaluations) % 2
        seen = x if second else x / level.alpha
        return x0_and_eps("eps", seen * level.t / (level.t + 1), x, level)

    x = shrink(initial_latents(sampler, LATENT, levels), levels[0])
    steps = sample(sampler.update, denoise, x, levels, noise_of_seed_0(), shrink)
    assert end(steps).sum().item() == pytest.approx(published, abs=tolerance)


def test_dpmpp_2m():
    # There it ends at the first timestep's level, with a step of second order: for us, one that is not the last.
    alpha_bar = schedule(1000)
    *levels, clean = sampler_levels(SAMPLERS["dpmpp_2m"], 10, alpha_bar)
    steps = sample(dpmpp_2m, denoiser(), LATENT, [*levels, vp_level(0, alpha_bar), clean], noise_of_seed_0())
    assert end(itertools.islice(steps, 10)).mean().item() == pytest.approx(0.3301, abs=1e-3)
