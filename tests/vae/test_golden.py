r"""The VAE against the outputs of diffusers, in float64.

diffusers leaves the scale of the latents to its caller, so it is applied here to what was stored.
"""

import math
from functools import partial

import pytest

from ldm.checkpoints.key_map import vae_rows
from ldm.config import VAEConfig
from ldm.vae.vae import VAE
from tests.golden.compare import assert_same, filled, golden
from tests.golden.explain import explain

SIZES = {
    "sd": VAEConfig((16, 32, 48, 48), res_per_level=2, latent_channels=4, scale=0.18215, groups=8),
    "tiny": VAEConfig((16, 32, 48), res_per_level=1, latent_channels=4, scale=1.0, groups=8),
}


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("size", ["even", "odd", "faint"])
def test_mean_and_log_variance_equal_the_reference(kind, size):
    vae, expected = filled(VAE(SIZES[kind]), vae_rows(SIZES[kind])), golden("vae")
    run = partial(vae.encode, expected[f"{kind}/{size}/pixels"])
    mean, logvar = run()
    scale = expected[f"{kind}/scale"].item()
    why = partial(explain, f"vae/{kind}/{size}", vae, vae_rows(SIZES[kind]), run)
    assert_same(mean, scale * expected[f"{kind}/{size}/mean"], why=why)
    assert_same(logvar, expected[f"{kind}/{size}/logvar"] + 2 * math.log(scale), why=why)


@pytest.mark.parametrize("kind", SIZES)
def test_a_decoded_latent_equals_the_reference(kind):
    vae, expected = filled(VAE(SIZES[kind]), vae_rows(SIZES[kind])), golden("vae")
    run = partial(vae.decode, expected[f"{kind}/scale"] * expected[f"{kind}/latent"])
    pixels = run()
    assert pixels.shape[2:] == tuple(VAE(SIZES[kind]).factor * n for n in (5, 3))
    why = partial(explain, f"vae/{kind}/latent", vae, vae_rows(SIZES[kind]), run)
    assert_same(pixels[..., ::3, ::3], expected[f"{kind}/decoded"], why=why)
