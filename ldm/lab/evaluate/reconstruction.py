r"""Reconstruction quality: how much does an image differ from its original?

**PSNR** measures the difference of the pixels, in decibels below the largest possible one; **SSIM** compares the mean,
contrast and structure of small windows. Both need the original, so they apply to the VAE's reconstructions and not to
generated images.

How they can mislead you: PSNR prefers a blurred edge to a sharp one that is off by one pixel, and a correct flat sky
outweighs a missing eye. SSIM values structure more, but sees only 11 pixels at a time and does not know what an eye is.
So look at the sheet of originals and reconstructions, too.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004, section III.B
K1, K2 = 0.01, 0.03


def psnr(a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    r"""The peak signal-to-noise ratio of each pair of images in [-1, 1], whose values span 2, in decibels:

    $$\mathrm{PSNR} = 10 \log_{10} \frac{2^2}{\mathrm{MSE}}$$

    MSE is the mean squared difference over all values of an image.
    """
    return 10 * (4 / (a - b).square().mean(dim=(1, 2, 3))).log10()


def ssim(a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    r"""Structural similarity, at most 1, of each pair of images in [-1, 1]: the mean over positions and channels of

    $$\frac{(2\mu_a\mu_b + C_1)(2\sigma_{ab} + C_2)}{(\mu_a^2 + \mu_b^2 + C_1)(\sigma_a^2 + \sigma_b^2 + C_2)}$$

    for means, variances and covariance under a Gaussian window of 11 x 11 pixels that lies inside the image;
    $C_i = (K_i L)^2$ for values from 0 to $L = 1$. Source: Wang et al. 2004, eq. 13.
    """
    if min(a.shape[-2:]) < WINDOW:
        raise LdmError(f"images of {tuple(a.shape[-2:])} pixels; SSIM needs at least {WINDOW} on each side")
    a, b = (a + 1) / 2, (b + 1) / 2
    mean_a, mean_b = _windowed(a), _windowed(b)
    var_a, var_b = _windowed(a * a) - mean_a**2, _windowed(b * b) - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _windowed(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
    r"""The Gaussian-weighted mean around every pixel whose window fits, by columns and then by rows."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = (-(offsets**2) / (2 * SIGMA**2)).exp()
    weights = (weights / weights.sum()).expand(x.shape[1], 1, -1)
    x = F.conv2d(x, weights[..., None], groups=x.shape[1])
    return F.conv2d(x, weights[..., None, :], groups=x.shape[1])
