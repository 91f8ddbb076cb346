r"""The whole U-Net."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ldm.config import SD1, SD1_INPAINT, SD2_BASE, SD2_INPAINT, SD2_V, UNetConfig, UNetLevel
from ldm.errors import LdmError
from ldm.nn.resnet import ResBlock
from ldm.unet.transformer import SpatialTransformer
from ldm.unet.unet import UNet

SMALL = UNetConfig((UNetLevel(8, 2, 0), UNetLevel(12, 3, 1), UNetLevel(16, 4, 2)), context_width=6, groups=4)
TIGHT = {"rtol": 0, "atol": 1e-12}
T = torch.tensor([3, 700])


@pytest.fixture
def unet(randomise):
    return randomise(UNet(SMALL))


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (SD1, 859_520_964),
        (SD1_INPAINT, 859_535_364),
        (SD2_BASE, 865_910_724),
        (SD2_V, 865_910_724),
        (SD2_INPAINT, 865_925_124),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_presets_have_their_published_sizes(config, count):
    with torch.device("meta"):
        unet = UNet(config.unet)
    assert sum(p.numel() for p in unet.parameters()) == count
    assert len(unet.state_dict()) == 686


def test_five_more_input_channels_cost_five_more_slices_of_the_first_kernel():
    # 320 output channels, 3 x 3 pixels, 5 input channels: 14,400 weights.
    assert 859_535_364 - 859_520_964 == 320 * 3 * 3 * 5


def test_stable_diffusion_1_has_22_residual_blocks_and_16_transformers():
    with torch.device("meta"):
        unet = UNet(SD1.unet)
    kinds = [type(module) for module in unet.modules()]
    assert kinds.count(ResBlock) == 4 * 2 + 2 + 4 * 3  # down, middle, up
    assert kinds.count(SpatialTransformer) == 3 * 2 + 1 + 3 * 3  # none at the coarsest level but the middle's
    norms = [module.eps for module in unet.modules() if isinstance(module, nn.GroupNorm)]
    assert (norms.count(1e-5), norms.count(1e-6)) == (2 * 22 + 1, 16)
    pads = [level.downsample.pad for level in unet.down if level.downsample is not None]
    assert pads == [(1, 1, 1, 1)] * 3  # all four sides, unlike the VAE's


def by_hand(unet, x, t, context):
    r"""The U-Net of SMALL written out: three levels, two blocks down, three up, all skips by name."""
    time = unet.time_embedding(t)
    d, m, u = unet.down, unet.mid, unet.up
    s0 = unet.conv_in(x)
    s1 = d[0].res[0](s0, time)
    s2 = d[0].res[1](s1, time)
    s3 = d[0].downsample(s2)
    s4 = d[1].attn[0](d[1].res[0](s3, time), context)
    s5 = d[1].attn[1](d[1].res[1](s4, time), context)
    s6 = d[1].downsample(s5)
    s7 = d[2].attn[0](d[2].res[0](s6, time), context)
    s8 = d[2].attn[1](d[2].res[1](s7, time), context)
    h = m.res_2(m.attn(m.res_1(s8, time), context), time)
    for j, skip in enumerate((s8, s7, s6)):
        h = u[0].attn[j](u[0].res[j](torch.cat((h, skip), 1), time), context)
    h = u[0].upsample(h, size=tuple(s5.shape[2:]))
    for j, skip in enumerate((s5, s4, s3)):
        h = u[1].attn[j](u[1].res[j](torch.cat((h, skip), 1), time), context)
    h = u[1].upsample(h, size=tuple(s2.shape[2:]))
    for j, skip in enumerate((s2, s1, s0)):
        h = u[2].res[j](torch.cat((h, skip), 1), time)
    h = F.group_norm(h, 4, unet.norm_out.weight, unet.norm_out.bias, 1e-5)
    return unet.conv_out(h * torch.sigmoid(h))


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (5, 7), (1, 1), (9, 2)])
def test_the_unet_is_its_parts_in_the_order_of_the_drawing_at_any_size(unet, draw, size):
    x, context = draw(2, 4, *size), draw(2, 3, 6)
    out = unet(x, T, context)
    assert out.shape == x.shape
    torch.testing.assert_close(out, by_hand(unet, x, T, context), **TIGHT)


@pytest.mark.parametrize("given", [0, 1])
def test_a_level_has_one_skip_for_each_block(unet, draw, given):
    level, first = unet.up[0], unet.up[0].res[0]
    skip, time_emb = draw(1, len(first.norm_1.weight) - 16, 4, 4), draw(1, first.time_proj.in_features)
    with pytest.raises(ValueError):
        level(draw(1, 16, 4, 4), [skip] * given, time_emb, draw(1, 3, 6), (8, 8))


def test_with_the_last_convolution_silent_only_its_bias_is_left(unet, draw):
    r"""By hand: conv_out with weights 0 and bias (1, 2, 3, 4) says so at every pixel."""
    nn.init.zeros_(unet.conv_out.weight)
    unet.conv_out.bias.data = torch.arange(1, 5, dtype=torch.float64)
    out = unet(draw(2, 4, 5, 7), T, draw(2, 3, 6))
    assert torch.equal(out, torch.arange(1, 5, dtype=torch.float64)[:, None, None].expand(2, 4, 5, 7))


@pytest.mark.parametrize(("level", "block"), [(i, j) for i in range(3) for j in range(3)])
def test_every_skip_is_used(unet, draw, level, block):
    x, context = draw(1, 4, 8, 8), draw(1, 3, 6)
    before = unet(x, T[:1], context)
    res = unet.up[level].res[block]
    skip = {0: (16, 16, 12), 1: (12, 12, 8), 2: (8, 8, 8)}[level][
        block
    ]  # channels; they come last in the cat

    def cut(_, args):
        h = args[0].clone()
        h[:, -skip:] = 0
        return h, *args[1:]

    res.register_forward_pre_hook(cut)
    assert (unet(x, T[:1], context) - before).abs().max() > 1e-6


def test_a_picture_does_not_depend_on_its_batch(unet, draw):
    x, context = draw(2, 4, 5, 7), draw(2, 3, 6)
    both = unet(x, T, context)
    for i in range(2):
        alone = unet(x[i : i + 1], T[i : i + 1], context[i : i + 1])
        torch.testing.assert_close(both[i : i + 1], alone, **TIGHT)


def test_one_timestep_serves_the_whole_batch(unet, draw):
    x, context = draw(2, 4, 4, 4), draw(2, 3, 6)
    one, two = unet(x, torch.tensor(700), context), unet(x, torch.tensor([700, 700]), context)
    assert torch.equal(one, two)


def test_timestep_text_and_latent_all_matter(unet, draw):
    x, context = draw(1, 4, 4, 4), draw(1, 3, 6)
    out = unet(x, T[:1], context)
    for other in (
        unet(x + 0.1, T[:1], context), unet(x, T[1:], context), unet(x, T[:1], context.flip(-1)),
    ):  # fmt: skip
        assert (other - out).abs().max() > 1e-4


def test_text_may_have_any_length_and_its_order_does_not_matter(unet, draw):
    # Cross-attention sees a set of words; their order is in the text encoder's states.
    x, context = draw(1, 4, 4, 4), draw(1, 5, 6)
    out = unet(x, T[:1], context)
    torch.testing.assert_close(unet(x, T[:1], context.flip(1)), out, **TIGHT)
    assert not torch.allclose(unet(x, T[:1], context[:, :2]), out)


def test_the_input_is_left_as_it_was(unet, draw):
    x, context = draw(1, 4, 4, 4), draw(1, 3, 6)
    before = x.clone(), context.clone()
    unet(x, T[:1], context)
    assert torch.equal(x, before[0]) and torch.equal(context, before[1])


def test_every_parameter_gets_a_gradient(unet, draw):
    # At the coarsest level 2x2 places are left: a single one would have nothing to choose between, and q and k no say.
    unet(draw(2, 4, 8, 8), T, draw(2, 3, 6)).square().sum().backward()
    silent = [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_more_channels_go_in_than_come_out_of_an_inpainting_model(randomise, draw):
    unet = randomise(UNet(replace(SMALL, in_channels=9)))
    assert unet(draw(1, 9, 4, 6), T[:1], draw(1, 3, 6)).shape == (1, 4, 4, 6)


def test_a_latent_with_other_channels_is_an_error(unet, draw):
    with pytest.raises(LdmError, match="has 9 channels; this U-Net takes 4"):
        unet(draw(1, 9, 4, 4), T[:1], draw(1, 3, 6))
