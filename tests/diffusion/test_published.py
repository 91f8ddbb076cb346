r"""The figures that diffusers' own tests hold its schedulers to, reproduced without diffusers and without weights.

Their "model" answers x t / (t + 1) for a latent x that rises evenly from 0 to 1, on a linear schedule; what is
published is the sum (for DPM++ the mean) of the absolute values at the end. Source: diffusers, tests/schedulers.
"""

import itertools

import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.ddim import ddim
from ldm.diffusion.ddpm import ddpm
from ldm.diffusion.dpmpp_2m import dpmpp_2m
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.sampling import Stride, strides
from ldm.diffusion.schedule import make_alpha_bar, spaced_timesteps
from ldm.diffusion.sigmas import piled, whole_sigma_path

LATENT = (torch.arange(768, dtype=torch.float64) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)
ONE = torch.tensor(1.0, dtype=torch.float64)


def schedule(steps):
    return make_alpha_bar(NoiseConfig(steps, "linear", 0.0001, 0.02)).double()


def denoiser(kind="eps", clip=False):
    def denoise(x, t, level):
        x0, eps = x0_and_eps(kind, x * t / (t + 1), x, level)
        return (x0.clamp(-1, 1) if clip else x0), eps

    return denoise


def noise_of_seed_0():
    generator = torch.Generator().manual_seed(0)
    return lambda: torch.randn(LATENT.shape, generator=generator).double()


def end(walk):
    *_, last = walk
    return last.x_prev.abs()


@pytest.mark.parametrize(("kind", "published"), [("eps", 172.0067), ("v", 52.5302)])
def test_ddim(kind, published):
    path = strides(spaced_timesteps(10, 1000), schedule(1000), ONE)
    assert end(
        ddim(denoiser(kind, clip=True), LATENT, path, noise_of_seed_0())
    ).sum().item() == pytest.approx(published, abs=1e-3)


def test_ddpm():
    path = strides(spaced_timesteps(1000, 1000), schedule(1000), ONE)
    got = end(ddpm(denoiser(clip=True), LATENT, path, noise_of_seed_0())).sum().item()
    assert got == pytest.approx(258.9606, abs=1e-2)


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
    r"""Their tests put x, what the network reads, in the place of y before each step (`sample = scale_model_input(
    sample)`), which no pipeline does: y becomes x = sqrt(alpha_bar) y. So we shrink by that, too, after each step, and
    show the network y. Heun's second look is at a latent that is not gone on with: there it reads x, as it should.
    """
    sampler, alpha_bar, looks = SAMPLERS[name], schedule(1100), itertools.count()
    path = sampler.path(10, alpha_bar)

    def shrink(x, level):
        return x * level.sqrt()

    def denoise(x, t, level):
        second = name == "heun" and next(looks) % 2
        seen = x if second else piled(x, level)
        return x0_and_eps("eps", seen * t / (t + 1), x, level)

    x = shrink(sampler.begin(LATENT, path), path[0].alpha_bar)
    got = end(sampler.walk(denoise, x, path, noise_of_seed_0(), shrink)).sum().item()
    assert got == pytest.approx(published, abs=tolerance)


def test_dpmpp_2m():
    # There it ends at the first timestep's level, with a stride of second order.
    alpha_bar = schedule(1000)
    *path, last = whole_sigma_path(10, alpha_bar)
    path.append(Stride(last.t, last.alpha_bar, alpha_bar[0]))
    got = end(dpmpp_2m(denoiser(), LATENT, path, noise_of_seed_0(), plain_end=False)).mean().item()
    assert got == pytest.approx(0.3301, abs=1e-3)
