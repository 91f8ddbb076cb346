r"""A VAE begun from a narrower one: what is taken over, what is new, and what cannot grow."""

import math
from dataclasses import replace

import pytest
import torch

from ldm.checkpoints.folder import write_tensors
from ldm.errors import LdmError
from ldm.train.grow import CERTAIN, grow
from ldm.vae.vae import VAE
from tests.small import CONFIG

NARROW = CONFIG.vae
WIDE = replace(NARROW, latent_channels=NARROW.latent_channels + 3)


@pytest.fixture
def folder(tmp_path, randomise):
    def write(config):
        vae = randomise(VAE(config)).float()
        write_tensors(tmp_path / "vae.safetensors", vae.state_dict(), torch.float32)
        return vae, tmp_path

    return write


def test_a_vae_of_the_same_size_is_the_trained_one(folder, randomise):
    trained, path = folder(NARROW)
    vae = randomise(VAE(NARROW)).float()
    grow(vae, path)
    for name, weight in trained.state_dict().items():
        assert torch.equal(vae.state_dict()[name], weight), name


def test_old_means_and_variances_come_first_in_each_half(folder, randomise, draw):
    trained, path = folder(NARROW)
    vae, (z, grown) = randomise(VAE(WIDE)).float(), (NARROW.latent_channels, WIDE.latent_channels)
    with torch.no_grad():
        vae.encoder.quant_conv.weight.zero_()
        grow(vae, path)
        pixels = draw(1, 3, 8, 8).float()
        mean, logvar = vae.encode(pixels)
        old_mean, old_logvar = trained.encode(pixels)
    # Nothing of the new features enters the old outputs here, so these are the old numbers.
    torch.testing.assert_close(mean[:, :z], old_mean)
    torch.testing.assert_close(logvar[:, :z], old_logvar)
    scaled = torch.full_like(logvar[:, z:], CERTAIN + 2 * math.log(NARROW.scale))
    torch.testing.assert_close(logvar[:, z:], scaled)
    assert mean.shape[1] == grown


def test_the_decoder_reads_the_old_channels_as_before(folder, randomise, draw):
    trained, path = folder(NARROW)
    vae, z = randomise(VAE(WIDE)).float(), NARROW.latent_channels
    latent = draw(1, WIDE.latent_channels, 4, 4).float()
    with torch.no_grad():
        vae.decoder.post_quant_conv.bias.zero_()
        vae.decoder.post_quant_conv.weight.zero_()
        grow(vae, path)
        vae.decoder.post_quant_conv.bias[z:] = 0
        torch.testing.assert_close(vae.decode(latent), trained.decode(latent[:, :z]))


def test_a_wider_vae_does_not_shrink(folder, randomise):
    _, path = folder(WIDE)
    with pytest.raises(LdmError, match="cannot grow to .*; start from a VAE of no more channels"):
        grow(VAE(NARROW), path)


def test_other_levels_are_an_error(folder):
    deeper = replace(NARROW, channels=(*NARROW.channels, NARROW.channels[-1]))
    for trained, wanted in ((NARROW, deeper), (deeper, NARROW)):
        _, path = folder(trained)
        with pytest.raises(LdmError, match="start from one with the same levels"):
            grow(VAE(wanted), path)


@pytest.mark.parametrize("shape", [(7,), (2, 3)])
def test_a_tensor_of_a_strange_shape_is_an_error(folder, shape):
    vae, path = folder(NARROW)
    strange = vae.state_dict() | {"encoder.quant_conv.bias": torch.zeros(shape)}
    write_tensors(path / "vae.safetensors", strange, torch.float32)
    with pytest.raises(LdmError, match="quant_conv.bias has the shape .*, which cannot grow"):
        grow(VAE(WIDE), path)
