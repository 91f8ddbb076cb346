r"""The variational part: samples, divergence, and the scale of the latents."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ldm.config import SD_VAE, VAEConfig
from ldm.errors import LdmError
from ldm.vae.vae import VAE, kl_divergence, reparametrise

SMALL = VAEConfig(channels=(4, 8), res_per_level=1, latent_channels=2, scale=0.25, groups=2)
TIGHT = {"rtol": 0, "atol": 1e-12}


def full(value, b=1, z=1, h=1, w=1):
    return torch.full((b, z, h, w), float(value), dtype=torch.float64)


def test_a_sample_by_hand():
    # A log-variance of 2 ln 3 is a standard deviation of 3: 5 + 3 * 0.5 = 6.5.
    assert reparametrise(full(5), full(2 * math.log(3)), full(0.5)).item() == pytest.approx(6.5, abs=1e-12)


def test_gradients_pass_through_a_sample():
    # z = mu + exp(lv / 2) e: dz/dmu = 1, dz/dlv = exp(lv / 2) e / 2 = 3 * 0.5 / 2.
    mean, logvar = full(5).requires_grad_(), full(2 * math.log(3)).requires_grad_()
    reparametrise(mean, logvar, full(0.5)).sum().backward()
    assert (mean.grad.item(), logvar.grad.item()) == pytest.approx((1.0, 0.75), abs=1e-12)


def test_samples_have_the_mean_and_the_deviation_they_should(draw):
    z = reparametrise(
        full(5).expand(1, 1, 200, 200), full(2 * math.log(3)).expand(1, 1, 200, 200), draw(1, 1, 200, 200)
    )
    assert z.mean().item() == pytest.approx(5, abs=0.06)  # 40,000 numbers: the mean errs by 3 / 200 = 0.015
    assert z.std().item() == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize(
    ("mean", "variance", "divergence"),
    [
        (0, 1, 0.0),
        (2, 1, 2.0),  # (4 + 1 - 1 - 0) / 2
        (0, math.e, (math.e - 2) / 2),  # (0 + e - 1 - 1) / 2
    ],
)
def test_the_divergence_by_hand(mean, variance, divergence):
    assert kl_divergence(full(mean), full(math.log(variance))).item() == pytest.approx(divergence, abs=1e-12)


def test_the_divergence_sums_over_a_latent_and_not_over_the_batch():
    mean = torch.cat([full(2, z=3, h=2, w=5), full(0, z=3, h=2, w=5)])
    assert kl_divergence(mean, torch.zeros_like(mean)).tolist() == [2.0 * 30, 0.0]


@pytest.mark.parametrize(("mean", "std"), [(0.7, 0.4), (-1.5, 2.0), (0.0, 0.1)])
def test_the_divergence_equals_its_integral(mean, std):
    r"""KL = integral of p (ln p - ln q), by the trapezium rule over 12 standard deviations on each side."""
    x = np.linspace(mean - 12 * std, mean + 12 * std, 200_001)
    log_p = -((x - mean) ** 2) / (2 * std**2) - math.log(std * math.sqrt(2 * math.pi))
    log_q = -(x**2) / 2 - math.log(math.sqrt(2 * math.pi))
    integral = (np.exp(log_p) * (log_p - log_q)).sum() * (x[1] - x[0])
    assert kl_divergence(full(mean), full(2 * math.log(std))).item() == pytest.approx(integral, abs=1e-9)


def test_the_divergence_is_never_negative(draw):
    assert (kl_divergence(draw(100, 1, 1, 1), 3 * draw(100, 1, 1, 1)) >= 0).all()


def test_stable_diffusions_vae_has_its_published_size():
    with torch.device("meta"):
        vae = VAE(SD_VAE)
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    assert len(vae.state_dict()) == 248
    assert (vae.scale, vae.factor) == (0.18215, 8)


def two_scales(randomise, s):
    r"""The same weights with scale 1 and with scale s."""
    plain, scaled = randomise(VAE(replace(SMALL, scale=1.0))), VAE(replace(SMALL, scale=s)).double()
    scaled.load_state_dict(plain.state_dict())
    return plain, scaled


@pytest.mark.parametrize("s", [0.18215, 3.0])
def test_the_scale_multiplies_the_mean_and_adds_twice_its_logarithm_to_the_log_variance(randomise, draw, s):
    (plain, scaled), pixels = two_scales(randomise, s), draw(2, 3, 6, 10)
    (mean_1, logvar_1), (mean_s, logvar_s) = plain.encode(pixels), scaled.encode(pixels)
    assert mean_s.shape == logvar_s.shape == (2, 2, 3, 5)
    torch.testing.assert_close(mean_s, s * mean_1, **TIGHT)
    torch.testing.assert_close(logvar_s, logvar_1 + 2 * math.log(s), **TIGHT)
    # In other words, scaling a sample is the same as sampling scaled.
    noise = draw(2, 2, 3, 5)
    torch.testing.assert_close(
        reparametrise(mean_s, logvar_s, noise), s * reparametrise(mean_1, logvar_1, noise), **TIGHT
    )


def test_decoding_undoes_the_scale(randomise, draw):
    (plain, scaled), z = two_scales(randomise, 0.18215), draw(2, 2, 3, 5)
    torch.testing.assert_close(scaled.decode(0.18215 * z), plain.decode(z), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("bias", "kept"), [(100.0, 20.0), (-100.0, -30.0), (7.0, 7.0)])
def test_the_log_variance_stays_within_minus_30_and_20_before_scaling(randomise, draw, bias, kept):
    vae = randomise(VAE(SMALL))
    nn.init.zeros_(vae.encoder.quant_conv.weight)
    vae.encoder.quant_conv.bias.data = torch.tensor([bias, bias, bias, bias], dtype=torch.float64)
    mean, logvar = vae.encode(draw(1, 3, 4, 4))
    torch.testing.assert_close(mean, torch.full_like(mean, 0.25 * bias), **TIGHT)  # the mean is not clipped
    torch.testing.assert_close(logvar, torch.full_like(logvar, kept + 2 * math.log(0.25)), **TIGHT)


def test_pixels_may_have_another_dtype_than_the_vae(randomise, draw):
    vae, pixels = randomise(VAE(SMALL)), draw(1, 3, 8, 8).half()
    mean, logvar = vae.encode(pixels)
    assert mean.dtype == logvar.dtype == torch.float64
    assert torch.equal(mean, vae.encode(pixels.double())[0])


def test_mean_comes_before_log_variance(randomise, draw):
    vae, pixels = randomise(VAE(SMALL)), draw(1, 3, 4, 6)
    mean, logvar = vae.encode(pixels)
    both = vae.encoder(pixels)
    torch.testing.assert_close(mean, 0.25 * both[:, :2], **TIGHT)
    torch.testing.assert_close(logvar, both[:, 2:] + 2 * math.log(0.25), **TIGHT)


def test_a_picture_comes_back_in_its_own_size(randomise, draw):
    vae = randomise(VAE(SMALL))
    mean, _ = vae.encode(draw(2, 3, 6, 10))
    assert vae.decode(mean).shape == (2, 3, 6, 10)


def test_a_latent_with_other_channels_is_an_error(randomise, draw):
    with pytest.raises(LdmError, match="a latent of 5 channels; this VAE decodes 2"):
        randomise(VAE(SMALL)).decode(draw(1, 5, 3, 3))
