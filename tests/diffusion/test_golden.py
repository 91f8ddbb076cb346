r"""Noise schedules and every step of all samplers against the outputs of diffusers.

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
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.sampling import strides
from ldm.diffusion.schedule import make_alpha_bar, make_betas, spaced_timesteps
from ldm.diffusion.sigmas import piled
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


def test_the_schedule_that_ends_in_pure_noise_equals_the_reference():
    config, expected = NoiseConfig(prediction="v", zero_snr=True), golden("schedule")
    # Near the end a beta is one minus the quotient of two small numbers.
    torch.testing.assert_close(make_betas(config), expected["zero_snr/betas"], rtol=0, atol=2e-4)
    torch.testing.assert_close(make_alpha_bar(config), expected["zero_snr/alpha_bar"], rtol=1e-5, atol=1e-7)


def sampler_noise(i):
    return torch.from_numpy(np.random.RandomState(1000 + i).standard_normal(SHAPE))


def run(sampler, kind, path, start=None, **options):
    r"""All latents of a run, with the dummy of `make.py` for a U-Net and its noise at each step."""
    made = []

    def denoise(x_t, t, level):
        return x0_and_eps(kind, x_t * (t + 1) / (t + 2), x_t, level)

    def noise():  # called at the step after the ones that are made
        return sampler_noise(len(made))

    for step in sampler(denoise, sampler_noise(-1) if start is None else start, path, noise, **options):
        made.append(step.x_prev)
    return torch.stack(made)


def assert_every_step_same(path, expected):
    for got, step in zip(path, expected, strict=True):
        assert_same(got, step)


@pytest.mark.parametrize("steps", [20, 30, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_every_step_of_ddim_equals_the_reference(steps, spacing):
    expected = golden("samplers")
    timesteps, alpha_bar = spaced_timesteps(steps, 1000, spacing, offset=1), expected["alpha_bar"].double()
    assert [t for t, _ in timesteps] == expected[f"ddim/{steps}/{spacing}/t"].tolist()
    for kind in KINDS:
        for eta in (0.0, 0.5, 1.0):
            path = run(ddim, kind, strides(timesteps, alpha_bar, alpha_bar[0]), eta=eta)
            assert_every_step_same(path, expected[f"ddim/{kind}/{steps}/{spacing}/{eta}"])


@pytest.mark.parametrize("steps", [20, 30, 50])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_every_step_of_ddpm_equals_the_reference(steps, variance):
    expected = golden("samplers")
    timesteps, alpha_bar = spaced_timesteps(steps, 1000), expected["alpha_bar"].double()
    assert [t for t, _ in timesteps] == expected[f"ddpm/{steps}/t"].tolist()
    for kind in KINDS:
        path = run(ddpm, kind, strides(timesteps, alpha_bar, alpha_bar.new_tensor(1.0)), variance=variance)
        assert_every_step_same(path, expected[f"ddpm/{kind}/{steps}/{variance}"])


def solver_keys():
    return [key.removesuffix("/path") for key in golden("solvers") if key.endswith("/path")]


def solve(name, kind, steps, alpha_bar):
    r"""Our run in the form of the reference's: its k-diffusion samplers hand out y, not x."""
    sampler = SAMPLERS[name]
    path = sampler.path(steps, alpha_bar)
    latents = run(sampler.walk, kind, path, start=sampler.begin(sampler_noise(-1), path))
    if not sampler.unit_start:
        latents = torch.stack([piled(x, stride.alpha_bar_prev) for x, stride in zip(latents, path)])
    return [stride.t for stride in path], latents


@pytest.mark.parametrize("key", solver_keys())
def test_every_step_of_the_other_samplers_equals_the_reference(key):
    name, kind, steps = key.split("/")
    expected = golden("solvers")
    times, latents = solve(name, kind, int(steps), expected["alpha_bar"].double())
    assert times == pytest.approx(expected[f"{key}/t"].tolist(), abs=1e-9)
    assert_every_step_same(latents, expected[f"{key}/path"])


def test_there_are_golden_steps_of_every_sampler():
    # All but one: the reference has no Karras levels for Euler ancestral, which is held to it on the others.
    names = {key.partition("/")[0] for key in solver_keys()}
    assert names | {"ddim", "ddpm", "euler_ancestral_karras"} == set(SAMPLERS)
