r"""What Stable Diffusion XL adds to the time embedding: against diffusers, by hand, and what is missing."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ldm.checkpoints.key_map import unet_rows
from ldm.config import AddedConfig
from ldm.errors import LdmError
from ldm.unet import added, embedding
from ldm.unet.added import AddedEmbedding
from ldm.unet.unet import UNet
from tests.golden.compare import assert_same, filled, golden
from tests.golden.sdxl import REFINER_UNET, UNET, recorded_sinusoids


@pytest.mark.parametrize(("kind", "config"), [("base", UNET), ("refiner", REFINER_UNET)])
def test_the_unet_of_stable_diffusion_xl_equals_the_reference(kind, config, monkeypatch):
    expected = golden("sdxl")
    for module in (added, embedding):
        monkeypatch.setattr(module, "timestep_embedding", recorded_sinusoids(expected))
    unet = filled(UNet(config), unet_rows(config, linear_projection=True))
    pooled, micro = expected["unet/pooled"], expected[f"unet/{kind}/micro"]
    for size in ("even", "odd"):
        inputs = expected[f"unet/{kind}/{size}/x_t"], expected["unet/t"], expected["unet/context"]
        assert_same(unet(*inputs, pooled=pooled, micro=micro), expected[f"unet/{kind}/{size}/out"])


def test_each_number_becomes_sinusoids_which_follow_the_pooled_text(draw):
    layer = AddedEmbedding(AddedConfig(pooled_width=3, numbers=5, sinusoid_width=4), width=6).double()
    pooled, micro = draw(2, 3), torch.tensor([[1.0, 2, 0, 0, 6], [3, 1, 4, 1, 5]])
    rows = []
    for text, numbers in zip(pooled, micro.tolist()):
        waves = []
        for n in numbers:  # of the frequencies 1 and 1/100, the cosines first
            angles = torch.tensor([n, n / 100], dtype=torch.float32)
            waves += [*angles.cos().tolist(), *angles.sin().tolist()]
        rows.append(torch.cat([text, torch.tensor(waves, dtype=torch.float64)]))
    by_hand = layer.linear_2(F.silu(layer.linear_1(torch.stack(rows))))
    torch.testing.assert_close(layer(pooled, micro), by_hand, rtol=0, atol=1e-6)


def test_the_sinusoids_of_large_numbers_are_exact_in_half_precision():
    # 1,025 is no number of bfloat16: rounded first, its sinusoids would be those of 1,024.
    layer = AddedEmbedding(AddedConfig(3, 6, 8), width=4).bfloat16()
    one, other = (torch.full((1, 6), n) for n in (1024.0, 1025.0))
    assert not torch.equal(
        layer(torch.zeros(1, 3).bfloat16(), one), layer(torch.zeros(1, 3).bfloat16(), other)
    )


def test_what_is_added_reaches_every_residual_block_through_the_time_embedding(draw):
    unet = UNet(replace(UNET, levels=UNET.levels[:2], mid_depth=1)).double()
    for parameter in unet.parameters():
        parameter.data = draw(*parameter.shape) / parameter[0].numel() ** 0.5
    x_t, t, context, pooled = draw(1, 4, 4, 4), torch.tensor([5]), draw(1, 3, 40), draw(1, 20)
    micro = torch.tensor([[32.0, 24, 0, 0, 32, 24]])
    seen = []
    unet.mid.res_1.register_forward_hook(lambda module, inputs, out: seen.append(inputs[1]))
    unet(x_t, t, context, pooled=pooled, micro=micro)
    torch.testing.assert_close(seen[0], unet.time_embedding(t) + unet.added_embedding(pooled, micro))


@pytest.mark.parametrize(("pooled", "micro"), [(None, 6), (20, None), (19, 6), (20, 5)])
def test_what_is_missing_or_of_another_width_is_an_error(pooled, micro):
    unet = UNet(UNET)
    given = {name: n and torch.zeros(1, n) for name, n in (("pooled", pooled), ("micro", micro))}
    with pytest.raises(LdmError, match="this U-Net reads 20 and 6: encode the prompt"):
        unet(torch.zeros(1, 4, 8, 8), torch.tensor(1), torch.zeros(1, 3, 40), **given)
