r"""Noise schedules and every step of DDIM and DDPM against the outputs of diffusers.

The tables are float32 there and here, and processors may differ in the last bit. So they are compared by
themselves, and the samplers are then given the reference's, made float64.
"""

import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.ddim import ddim
from ldm.diffusion.ddpm import ddpm
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.schedule import make_alpha_bar, make_betas, spaced_timesteps
from tests.golden.compare import assert_same, golden

KINDS = ("eps", "v", "x0")
SHAPE = (1, 2, 1, 3)


@pytest.mark.parametrize("schedule", ["scaled_linear", "linear", "cosine"])
def test_the_schedules_equal_the_reference(schedule):
    config, expected = NoiseConfig(schedule=schedule), golden("schedule")
    torch.testing.assert_close(make_betas(config), expected[f"{schedule}/betas"], rtol=5e-7, atol=0)
    # A product of a thousand roundings; the cosine's falls to nothing.
    torch.testing.assert_close(
        make_alpha_bar(config), expected[f"{schedule}/alpha_bar"], rtol=5e-6, atol=1e-12
    )


def sampler_noise(i):
    return torch.from_numpy(np.random.RandomState(1000 + i).standard_normal(SHAPE))


def run(sampler, kind, timesteps, alpha_bar, **options):
    r"""All latents of a run, with the dummy of `make.py` for a U-Net and its noise at each step."""
    made = []

    def denoise(x_t, t):
        return x0_and_eps(kind, x_t * (t + 1) / (t + 2), x_t, alpha_bar[t])

    def noise():  # called at the step after the ones that are made
        return sampler_noise(len(made))

    for step in sampler(denoise, sampler_noise(-1), timesteps, alpha_bar, noise, **options):
        made.append(step.x_prev)
    return torch.stack(made)


def assert_every_step_same(path, expected):
    for got, step in zip(path, expected, strict=True):
        assert_same(got, step)


@pytest.mark.parametrize("steps", [20, 30, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_every_step_of_ddim_equals_the_reference(steps, spacing):
    expected = golden("samplers")
    timesteps = spaced_timesteps(steps, 1000, spacing, offset=1)
    assert [t for t, _ in timesteps] == expected[f"ddim/{steps}/{spacing}/t"].tolist()
    for kind in KINDS:
        for eta in (0.0, 0.5, 1.0):
            path = run(ddim, kind, timesteps, expected["alpha_bar"].double(), eta=eta)
            assert_every_step_same(path, expected[f"ddim/{kind}/{steps}/{spacing}/{eta}"])


@pytest.mark.parametrize("steps", [20, 30, 50])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_every_step_of_ddpm_equals_the_reference(steps, variance):
    expected = golden("samplers")
    timesteps = spaced_timesteps(steps, 1000)
    assert [t for t, _ in timesteps] == expected[f"ddpm/{steps}/t"].tolist()
    for kind in KINDS:
        path = run(ddpm, kind, timesteps, expected["alpha_bar"].double(), variance=variance)
        assert_every_step_same(path, expected[f"ddpm/{kind}/{steps}/{variance}"])
