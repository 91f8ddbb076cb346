r"""The guidance scale as a distilled U-Net reads it: by hand, and a whole U-Net against diffusers."""

import math
from dataclasses import replace

import pytest
import torch

from ldm.checkpoints.key_map import unet_rows
from ldm.checkpoints.validate import meta_model
from ldm.config import SD1_LCM, SDXL_LCM
from ldm.unet import embedding
from ldm.unet.embedding import TimeEmbedding, timestep_embedding
from ldm.unet.guidance_embedding import guidance_embedding
from ldm.unet.unet import UNet
from tests.golden.compare import assert_same, filled, golden
from tests.golden.few_steps import looked_up
from tests.unet.test_golden import SIZES

TOLD = replace(SIZES["sd1"], guidance_width=12)


def test_the_sinusoids_by_hand():
    # Of the frequencies 1, 1/100 and 1/10000, the sines first; for w = 0.002 the angles are 2, 0.02 and 0.0002.
    angles = (2, 0.02, 0.0002)
    expected = [*map(math.sin, angles), *map(math.cos, angles)]
    assert guidance_embedding(torch.tensor([0.002]), 6)[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_no_guidance_is_zero_sines_and_one_cosines():
    assert guidance_embedding(torch.zeros(1), 8)[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_the_sinusoids_equal_the_reference():
    expected = golden("few_steps")
    found = guidance_embedding(expected["guidance/of"], TOLD.guidance_width)
    # An angle of up to 7000 in float32 is known to 5e-4.
    torch.testing.assert_close(found, expected["guidance"], rtol=0, atol=1e-3)


def test_a_unet_that_is_told_the_guidance_equals_the_reference(monkeypatch):
    expected = golden("few_steps")
    monkeypatch.setattr(embedding, "guidance_embedding", looked_up(expected))
    times = golden("unet")["sd1/sinusoids"]
    monkeypatch.setattr(embedding, "timestep_embedding", lambda t, width: times)
    unet = filled(UNet(TOLD), unet_rows(TOLD))
    inputs = (expected[f"unet/{name}"] for name in ("x_t", "t", "context"))
    assert_same(unet(*inputs, w=expected["unet/w"]), expected["unet/out"])


def test_it_is_added_to_the_sinusoids_of_the_timestep_before_their_mlp(draw):
    layer, t, w = TimeEmbedding(8, 16, guidance_width=6).double(), torch.tensor([7, 981]), draw(2).float()
    sinusoids = (
        timestep_embedding(t, 8).double() + guidance_embedding(w, 6).double() @ layer.guidance.weight.T
    )
    torch.testing.assert_close(
        layer(t, w), layer.linear_2(torch.nn.functional.silu(layer.linear_1(sinusoids)))
    )


def test_the_scale_is_exact_in_half_precision():
    # 6.01 is no number of bfloat16: rounded first, its sinusoids would be those of 6.
    layer = TimeEmbedding(8, 16, guidance_width=16).bfloat16()
    t = torch.tensor([5])
    assert not torch.equal(layer(t, torch.tensor([6.0])), layer(t, torch.tensor([6.01])))


@pytest.mark.parametrize(("config", "count"), [(SD1_LCM, 859_602_884), (SDXL_LCM, 2_567_545_604)])
def test_at_full_size_it_is_one_tensor_more_than_the_model_that_was_distilled(config, count):
    unet = meta_model("unet", config.unet)
    plain = meta_model("unet", replace(config.unet, guidance_width=None))
    assert sum(p.numel() for p in unet.parameters()) == count
    assert dict(unet.named_parameters()).keys() - dict(plain.named_parameters()) == {
        "time_embedding.guidance.weight"
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_sinusoids_are_float32_whatever_comes_in(dtype):
    # 6500 is no number of bfloat16, whose neighbours there are 32 apart.
    found = guidance_embedding(torch.tensor([6.5], dtype=dtype), 8)
    assert torch.equal(found, guidance_embedding(torch.tensor([6.5]), 8))
