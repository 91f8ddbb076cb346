r"""The U-Net against the outputs of diffusers, in float64.

The sinusoids of the time are computed in float32 on purpose, and there processors may differ in the last bit.
So they are compared by themselves, and the networks are then given the reference's.
"""

from functools import partial

import pytest
import torch

from ldm.checkpoints.key_map import unet_rows
from ldm.config import UNetConfig, UNetLevel
from ldm.unet import embedding
from ldm.unet.unet import UNet
from tests.golden.compare import assert_same, filled, golden
from tests.golden.explain import explain

SIZES = {
    # The same number of heads at every level, and 1x1 convolutions around the transformers.
    "sd1": UNetConfig((UNetLevel(16, 4, 1), UNetLevel(32, 4, 1), UNetLevel(48, 4, 0)), 24, groups=8),
    # The same width of heads at every level, and linear maps around the transformers; one is two layers deep.
    "sd2": UNetConfig((UNetLevel(16, 2, 1), UNetLevel(32, 4, 2), UNetLevel(48, 6, 0)), 32, groups=8),
    "tiny": UNetConfig(
        (UNetLevel(24, 4, 0), UNetLevel(48, 6, 1), UNetLevel(64, 8, 1)), 24, res_per_level=1, groups=8
    ),
}


@pytest.mark.parametrize("kind", SIZES)
def test_the_sinusoids_of_the_time_equal_the_reference(kind):
    expected = golden("unet")
    sinusoids = embedding.timestep_embedding(expected["t"], SIZES[kind].levels[0].channels)
    # An angle of up to 1000 in float32 is known to 6e-5.
    torch.testing.assert_close(sinusoids.double(), expected[f"{kind}/sinusoids"].double(), rtol=0, atol=2e-4)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("size", ["even", "odd", "faint"])
def test_two_pictures_at_different_times_equal_the_reference(kind, size, monkeypatch):
    expected = golden("unet")
    monkeypatch.setattr(embedding, "timestep_embedding", lambda t, width: expected[f"{kind}/sinusoids"])
    rows = unet_rows(SIZES[kind], linear_projection=kind == "sd2")
    unet = filled(UNet(SIZES[kind]), rows)

    def run():
        return unet(expected[f"{kind}/{size}/x_t"], expected["t"], expected[f"{kind}/context"])

    why = partial(explain, f"unet/{kind}/{size}", unet, rows, run)
    assert_same(run(), expected[f"{kind}/{size}/out"], why=why)
