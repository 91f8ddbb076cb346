r"""PSNR and SSIM: numbers by hand, and SSIM once more, window by window, in numpy."""

import numpy as np
import pytest
import torch

from ldm.errors import LdmError
from ldm.lab.evaluate.reconstruction import psnr, ssim


def test_psnr_by_hand():
    a = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    b = a + torch.tensor([0.2, 0.02])[:, None, None, None]
    # 10 log10(4 / 0.04) = 20, and a tenth of the error is 20 dB more.
    torch.testing.assert_close(psnr(a, b), torch.tensor([20.0, 40.0], dtype=torch.float64))


def slow_ssim(a: np.ndarray, b: np.ndarray) -> float:
    r"""Equation 13 of Wang et al. 2004 as it is printed, for one image [3, h, w] in [0, 1]."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for x, y in zip(a, b):
        for i in range(x.shape[0] - 10):
            for j in range(x.shape[1] - 10):
                p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                cov = (window * (p - mp) * (q - mq)).sum()
                c1, c2 = 0.01**2, 0.03**2
                values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(values))


def test_ssim_is_the_printed_equation():
    rng = np.random.default_rng(0)
    a, noise = rng.random((2, 3, 13, 17)), rng.random((2, 3, 13, 17))
    b = 0.7 * a + 0.3 * noise
    got = ssim(torch.tensor(2 * a - 1), torch.tensor(2 * b - 1))
    np.testing.assert_allclose(got, [slow_ssim(*pair) for pair in zip(a, b)], rtol=1e-9)


def test_ssim_of_two_flat_images_compares_their_brightness_alone():
    a, b = (torch.full((1, 3, 16, 16), value, dtype=torch.float64) for value in (0.0, 0.6))
    # As values in [0, 1]: 0.5 and 0.8.
    expected = (2 * 0.5 * 0.8 + 1e-4) / (0.5**2 + 0.8**2 + 1e-4)
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-9)


def test_ssim_is_one_for_an_image_and_itself_and_negative_for_its_negative(draw):
    a = draw(2, 3, 16, 16).clamp(-1, 1)
    torch.testing.assert_close(ssim(a, a), torch.ones(2, dtype=torch.float64))
    assert (ssim(a, -a) < 0).all()


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(LdmError, match="at least 11"):
        ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))
