r"""The VAE's decoder."""

import pytest
import torch
from torch import nn

from ldm.config import SD_VAE, VAEConfig
from ldm.errors import LdmError
from ldm.vae.decoder import Decoder

SMALL = VAEConfig(channels=(4, 6, 8), res_per_level=2, latent_channels=3, scale=0.5, groups=2)
TIGHT = {"rtol": 0, "atol": 1e-12}


def test_stable_diffusions_decoder_has_its_published_size():
    with torch.device("meta"):
        decoder = Decoder(SD_VAE)
    post_quant = 4 * 4 + 4
    assert sum(p.numel() for p in decoder.parameters()) == 49_490_179 + post_quant
    assert len(decoder.state_dict()) == 138 + 2


def test_the_decoder_has_one_residual_block_a_level_more_than_the_encoder():
    assert [len(level.res) for level in Decoder(SMALL).up] == [3, 3, 3]


def by_hand(decoder, z):
    r"""SMALL written out: the middle, the levels from the coarsest, doubling twice, the last norm."""
    h = decoder.conv_in(decoder.post_quant_conv(z))
    h = decoder.mid.res_2(decoder.mid.attn(decoder.mid.res_1(h)))
    for i in range(3):
        for j in range(3):
            h = decoder.up[i].res[j](h)
        if i < 2:
            h = decoder.up[i].upsample.conv(h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    b, c, height, width = h.shape
    h = h.reshape(b, 2, -1)
    h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()
    norm = decoder.norm_out
    h = h.reshape(b, c, height, width) * norm.weight[:, None, None] + norm.bias[:, None, None]
    return decoder.conv_out(h * torch.sigmoid(h))


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (1, 5)])
def test_the_decoder_equals_one_written_out(draw, randomise, size):
    decoder, z = randomise(Decoder(SMALL)), draw(2, 3, *size)
    out = decoder(z)
    assert out.shape == (2, 3, 4 * size[0], 4 * size[1])
    torch.testing.assert_close(out, by_hand(decoder, z), **TIGHT)


def test_a_silent_decoder_says_its_last_bias(draw, randomise):
    r"""conv_out with weights 0 and biases (1, 0, -1): full red, half green, no blue, at all 8 x 12 pixels."""
    decoder = randomise(Decoder(SMALL))
    nn.init.zeros_(decoder.conv_out.weight)
    decoder.conv_out.bias.data = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    out = decoder(draw(1, 3, 2, 3))
    assert torch.equal(out, torch.tensor([1.0, 0.0, -1.0]).double()[:, None, None].expand(1, 3, 8, 12))


def test_a_latent_does_not_depend_on_its_batch(draw, randomise):
    decoder, z = randomise(Decoder(SMALL)), draw(3, 3, 2, 3)
    torch.testing.assert_close(decoder(z)[1:2], decoder(z[1:2]), **TIGHT)


def test_every_norm_of_the_vae_has_an_eps_of_one_millionth():
    norms = [module.eps for module in Decoder(SMALL).modules() if isinstance(module, nn.GroupNorm)]
    assert set(norms) == {1e-6} and len(norms) == 2 * (3 * 3 + 2) + 1 + 1


def test_a_latent_with_other_channels_is_an_error(draw, randomise):
    with pytest.raises(LdmError, match="a latent of 4 channels; this VAE decodes"):
        randomise(Decoder(SMALL))(draw(1, 4, 2, 2))
