r"""Noise schedules and every step of all samplers against the outputs of diffusers.

The tables are float32 there and here, and processors may differ in the last bit. So they are compared by
themselves, and the samplers are then given the reference's, made float64.
"""

from functools import partial

import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import vp_level
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.samplers.ddim import ddim
from ldm.diffusion.samplers.ddpm import ddpm
from ldm.diffusion.schedule import make_alpha_bar, make_betas
from ldm.diffusion.spacing import initial_latents, sampler_levels, spaced_timesteps
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


def dummy(prediction_type):
    r"""The dummy of `make.py` for a U-Net."""

    def denoise(x_t, level):
        return x0_and_eps(prediction_type, x_t * (level.t + 1) / (level.t + 2), x_t, level)

    return denoise


def run(update, prediction_type, levels, start=None):
    r"""All latents of a run with `dummy`, and the noise of `make.py` at each step."""
    made = []

    def noise_fn(*_):  # called at the step after the ones that are made
        return sampler_noise(len(made))

    for step in sample(
        update, dummy(prediction_type), sampler_noise(-1) if start is None else start, levels, noise_fn
    ):
        made.append(step.x_prev)
    return torch.stack(made)


def assert_every_step_same(path, expected):
    for got, step in zip(path, expected, strict=True):
        assert_same(got, step)


def ddim_like_the_reference(prediction_type, timesteps, alpha_bar, eta):
    r"""All latents of a DDIM run whose steps all go down by the same number of timesteps, as the reference's do.

    On grids that are not that regular the reference arrives at one level and reads the latent at another ("linspace",
    20 steps: at t = 949 and 946). Ours are chains of levels, so each step is a run of its own here.
    """
    stride, x, made = 1000 // len(timesteps), sampler_noise(-1), []
    for i, t in enumerate(timesteps):
        levels = [vp_level(t, alpha_bar), vp_level(max(t - stride, 0), alpha_bar)]
        noise = partial(sampler_noise, i)
        [step] = sample(partial(ddim, eta=eta), dummy(prediction_type), x, levels, noise)
        made.append(x := step.x_prev)
    return torch.stack(made)


@pytest.mark.parametrize("steps", [20, 30, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_every_step_of_ddim_equals_the_reference(steps, spacing):
    expected = golden("samplers")
    # DDIM's timesteps are whole.
    timesteps = [round(t) for t in spaced_timesteps(steps, 1000, spacing)]
    alpha_bar = expected["alpha_bar"].double()
    assert timesteps == expected[f"ddim/{steps}/{spacing}/t"].tolist()
    for kind in KINDS:
        for eta in (0.0, 0.5, 1.0):
            path = ddim_like_the_reference(kind, timesteps, alpha_bar, eta)
            assert_every_step_same(path, expected[f"ddim/{kind}/{steps}/{spacing}/{eta}"])


@pytest.mark.parametrize("steps", [20, 30, 50])
def test_a_whole_run_of_ddim_equals_the_reference(steps):
    expected = golden("samplers")
    levels = sampler_levels(SAMPLERS["ddim"], steps, expected["alpha_bar"].double())
    for kind in KINDS:
        for eta in (0.0, 0.5, 1.0):
            path = run(partial(ddim, eta=eta), kind, levels)
            assert_every_step_same(path, expected[f"ddim/{kind}/{steps}/leading/{eta}"])


@pytest.mark.parametrize("steps", [20, 30, 50])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_every_step_of_ddpm_equals_the_reference(steps, variance):
    expected = golden("samplers")
    levels = sampler_levels(SAMPLERS["ddpm"], steps, expected["alpha_bar"].double())
    assert [level.t for level in levels[:-1]] == expected[f"ddpm/{steps}/t"].tolist()
    for kind in KINDS:
        path = run(partial(ddpm, variance=variance), kind, levels)
        assert_every_step_same(path, expected[f"ddpm/{kind}/{steps}/{variance}"])


def solver_keys():
    return [key.removesuffix("/path") for key in golden("solvers") if key.endswith("/path")]


def solve(name, prediction_type, steps, alpha_bar):
    r"""Our run in the form of the reference's: its k-diffusion samplers hand out x / alpha."""
    sampler = SAMPLERS[name]
    levels = sampler_levels(sampler, steps, alpha_bar)
    latents = run(
        sampler.update, prediction_type, levels, initial_latents(sampler, sampler_noise(-1), levels)
    )
    if not sampler.unit_start:
        latents = torch.stack([x / level.alpha for x, level in zip(latents, levels[1:], strict=True)])
    return [level.t for level in levels[:-1]], latents


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
