r"""The VAE's encoder."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ldm.config import SD_VAE, VAEConfig
from ldm.vae.encoder import Encoder

SMALL = VAEConfig(channels=(4, 8, 8), res_per_level=2, latent_channels=3, scale=0.5, groups=2)
TIGHT = {"rtol": 0, "atol": 1e-12}


def test_stable_diffusions_encoder_has_its_published_size():
    with torch.device("meta"):
        encoder = Encoder(SD_VAE)
    quant = 8 * 8 + 8
    assert sum(p.numel() for p in encoder.parameters()) == 34_163_592 + quant
    assert len(encoder.state_dict()) == 106 + 2


def group_norm(h, norm):
    b, c, height, width = h.shape
    parts = h.reshape(b, 2, -1)
    parts = (parts - parts.mean(-1, keepdim=True)) / (parts.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()
    return parts.reshape(b, c, height, width) * norm.weight[:, None, None] + norm.bias[:, None, None]


def res_by_hand(block, h):
    x = h
    for norm, conv in ((block.norm_1, block.conv_1), (block.norm_2, block.conv_2)):
        h = group_norm(h, norm)
        h = F.conv2d(h * torch.sigmoid(h), conv.weight, conv.bias, padding=1)
    return h + (x if isinstance(block.skip, nn.Identity) else F.conv2d(x, block.skip.weight, block.skip.bias))


def by_hand(encoder, x):
    h = F.conv2d(x, encoder.conv_in.weight, encoder.conv_in.bias, padding=1)
    for i in range(3):
        for j in range(2):
            h = res_by_hand(encoder.down[i].res[j], h)
        if i < 2:
            conv = encoder.down[i].downsample.conv
            b, c, height, width = h.shape
            padded = h.new_zeros(b, c, height + 1, width + 1)  # one row below, one column on the right
            padded[..., :-1, :-1] = h
            h = F.conv2d(padded, conv.weight, conv.bias, stride=2)
    h = res_by_hand(encoder.mid.res_1, h)
    h = encoder.mid.attn(h)
    h = res_by_hand(encoder.mid.res_2, h)
    h = group_norm(h, encoder.norm_out)
    h = F.conv2d(h * torch.sigmoid(h), encoder.conv_out.weight, encoder.conv_out.bias, padding=1)
    return F.conv2d(h, encoder.quant_conv.weight, encoder.quant_conv.bias)


@pytest.mark.parametrize(
    ("size", "latent"), [((8, 8), (2, 2)), ((12, 8), (3, 2)), ((7, 9), (1, 2)), ((11, 6), (2, 1))]
)
@pytest.mark.parametrize("contrast", [1.0, 1e-3])
def test_the_encoder_equals_one_written_out_at_even_and_odd_sizes(draw, randomise, size, latent, contrast):
    encoder, pixels = randomise(Encoder(SMALL)), contrast * draw(2, 3, *size)
    out = encoder(pixels)
    assert out.shape == (2, 2 * 3, *latent)  # mean and log-variance; odd sizes are halved and rounded down
    torch.testing.assert_close(out, by_hand(encoder, pixels), **TIGHT)


def test_a_silent_encoder_says_its_last_bias(randomise, draw):
    r"""With quant_conv's weights 0 and biases 1 to 6, those are the outputs at every place."""
    encoder = randomise(Encoder(SMALL))
    nn.init.zeros_(encoder.quant_conv.weight)
    encoder.quant_conv.bias.data = torch.arange(1, 7, dtype=torch.float64)
    out = encoder(draw(1, 3, 8, 8))
    assert torch.equal(out, torch.arange(1, 7, dtype=torch.float64)[:, None, None].expand(1, 6, 2, 2))


def test_a_picture_does_not_depend_on_its_batch(draw, randomise):
    encoder, pixels = randomise(Encoder(SMALL)), draw(3, 3, 8, 12)
    torch.testing.assert_close(encoder(pixels)[1:2], encoder(pixels[1:2]), **TIGHT)


def test_every_norm_of_the_vae_has_an_eps_of_one_millionth():
    norms = [module.eps for module in Encoder(SMALL).modules() if isinstance(module, nn.GroupNorm)]
    assert set(norms) == {1e-6} and len(norms) == 2 * (3 * 2 + 2) + 1 + 1


def test_a_picture_too_small_to_halve_is_an_error(draw, randomise):
    with pytest.raises(RuntimeError):
        randomise(Encoder(SMALL))(draw(1, 3, 1, 1))
