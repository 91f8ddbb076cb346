r"""Two pictures side by side: how far apart are they?

**PSNR** asks by how much the pixels differ, in decibels below the largest possible difference; **SSIM** asks
whether small windows have the same mean, contrast and structure. Both need the original, so they measure
reconstructions (of the VAE), never painted pictures, which have none.

How they can fool you: PSNR prefers a blur to a sharp edge that is one pixel off, and a flat sky that is right
outweighs an eye that is missing. SSIM is kinder to structure, but looks at 11 pixels at a time: it does not know
what an eye is. So look at the sheet, originals over reconstructions.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ldm.errors import LdmError
from ldm.postcards import grid

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004, section III.B
K1, K2 = 0.01, 0.03


def psnr(a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    r"""The peak signal-to-noise ratio of each pair of pictures in [-1, 1], whose values span 2, in decibels:

    $$\mathrm{PSNR} = 10 \log_{10} \frac{2^2}{\mathrm{MSE}}$$

    MSE is the mean squared difference over all numbers of a picture.
    """
    return 10 * (4 / (a - b).square().mean(dim=(1, 2, 3))).log10()


def ssim(a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    r"""Structural similarity, at most 1, of each pair of pictures in [-1, 1]; the mean over places and colours of

    $$\frac{(2\mu_a\mu_b + C_1)(2\sigma_{ab} + C_2)}{(\mu_a^2 + \mu_b^2 + C_1)(\sigma_a^2 + \sigma_b^2 + C_2)}$$

    for means, variances and covariance under a Gaussian window of 11 x 11 pixels that lies inside the picture;
    $C_i = (K_i L)^2$ with values from 0 to $L = 1$. Source: Wang et al. 2004, eq. 13.
    """
    if min(a.shape[-2:]) < WINDOW:
        raise LdmError(f"pictures of {tuple(a.shape[-2:])} pixels; SSIM needs at least {WINDOW} on each side")
    a, b = (a + 1) / 2, (b + 1) / 2
    mean_a, mean_b = _windowed(a), _windowed(b)
    var_a, var_b = _windowed(a * a) - mean_a**2, _windowed(b * b) - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _windowed(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
    r"""The Gaussian-weighted mean around every pixel whose window fits: a column's, then a row's."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = (-(offsets**2) / (2 * SIGMA**2)).exp()
    weights = (weights / weights.sum()).expand(x.shape[1], 1, -1)
    x = F.conv2d(x, weights[..., None], groups=x.shape[1])
    return F.conv2d(x, weights[..., None, :], groups=x.shape[1])


def over_and_under(
    above: Sequence[Image.Image], below: Sequence[Image.Image], columns: int = 8
) -> Image.Image:
    r"""Pairs of pictures, one of each over the other, `columns` pairs a row."""
    rows: list[Image.Image] = []
    for i in range(0, len(above), columns):
        for row in (above[i : i + columns], below[i : i + columns]):
            rows += [*row, *[Image.new("RGB", row[0].size, "white")] * (columns - len(row))]
    return grid(rows, columns)
