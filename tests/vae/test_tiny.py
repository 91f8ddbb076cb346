r"""The tiny VAE: against diffusers' stored answers, by its formulas, in tiles, and as a `VAE` that others use."""

import pytest
import torch
import torch.nn.functional as F

from ldm.checkpoints.tiny_file import tiny_rows
from ldm.errors import LdmError
from ldm.vae.tiles import decode_in_tiles, encode_in_tiles
from ldm.vae.tiny import TinyBlock, TinyVAE
from ldm.vae.vae import VAE, reparametrise
from tests.golden.compare import assert_same, filled, golden


@pytest.fixture(scope="module")
def vae():
    return filled(TinyVAE(), tiny_rows())


def test_it_encodes_and_decodes_as_the_reference(vae):
    expected = golden("tiny")
    mean, logvar = vae.encode(expected["pixels"])
    assert_same(mean, expected["encoded"])
    assert_same(vae.decode(expected["latent"]), expected["decoded"])
    assert_same(reparametrise(mean, logvar, torch.ones_like(mean)), mean, 1e-6)  # it is a point


def test_it_has_as_many_parameters_as_published(vae):
    counts = [sum(p.numel() for p in half.parameters()) for half in (vae.encoder, vae.decoder)]
    assert counts == [1_222_532, 1_222_531]
    assert isinstance(vae, VAE) and vae.factor == 8 and vae.scale == 1


def test_a_block_with_its_kernels_in_their_middle_by_hand():
    block = TinyBlock().double()
    for i, layer in enumerate((block.conv_1, block.conv_2, block.conv_3), start=1):
        kernel = torch.zeros_like(layer.weight)
        kernel[:, :, 1, 1] = i * torch.eye(64)
        layer.weight.data, layer.bias.data = kernel, torch.full_like(layer.bias, -1.0)
    x = torch.tensor([2.0, 0.5, -3.0], dtype=torch.float64).expand(1, 64, 1, 3)
    # 2: 1 -> 1, 2 - 1 = 1, 3 - 1 = 2, and 2 + 2. 0.5: cut off twice, then -1. -3: the same, and all is cut off.
    assert block(x)[0, 0, 0].tolist() == [4.0, 0.0, 0.0]


def test_small_latents_are_kept_and_large_ones_bent_below_three(vae):
    bent = vae.decoder.middle(torch.tensor([0.01, -0.01, 3.0, 1e6]).expand(1, 4, 1, 4))[0, 0, 0]
    torch.testing.assert_close(bent, torch.tensor([0.01, -0.01, 2.2847825, 3.0]), rtol=1e-5, atol=0)


def test_tiles_differ_little_from_the_whole(vae):
    latent = F.interpolate(golden("tiny")["latent"][:1], (4, 12), mode="bilinear")
    whole, tiled = vae.decode(latent), decode_in_tiles(vae, latent, tile=10, overlap=8)
    assert 0 < (whole - tiled).abs().mean() < 0.1 * whole.std()
    pixels = F.interpolate(golden("tiny")["pixels"][:1], (32, 96), mode="bilinear")
    mean, tiled_mean = vae.encode(pixels)[0], encode_in_tiles(vae, pixels, tile=10, overlap=8)[0]
    assert 0 < (mean - tiled_mean).abs().mean() < 0.1 * mean.std()


def test_without_an_encoder_it_decodes_and_says_what_is_missing():
    vae = TinyVAE(encodes=False)
    assert vae.decode(torch.zeros(1, 4, 1, 2)).shape == (1, 3, 8, 16)
    with pytest.raises(LdmError, match="has no encoder, so no image can be encoded"):
        vae.encode(torch.zeros(1, 3, 8, 8))


def test_a_latent_of_other_channels_is_refused(vae):
    with pytest.raises(LdmError, match="a latent of 16 channels; this tiny VAE decodes 4"):
        vae.decode(torch.zeros(1, 16, 1, 2))
