r"""What the tests of diffusion share: noise levels by one number, and networks whose answer is known."""

import math

import torch

from ldm.diffusion.level import Level


def vp(alpha_bar, t=0):
    r"""The VP level of an alpha_bar."""
    return Level(t, math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar))


def ve(sigma, t=0):
    r"""The VE level of a sigma: x = x0 + sigma eps."""
    return Level(t, 1.0, float(sigma))


def one(x):
    return torch.tensor([float(x)], dtype=torch.float64)


def wave(x, level):
    r"""Some smooth, wrong estimate of the noise, and the x0 that fits it."""
    eps = torch.sin(3 * x + level.t)
    return (x - level.sigma * eps) / level.alpha, eps


def perfect(x0):
    r"""A network that knows x0."""
    return lambda x, level: (x0, (x - level.alpha * x0) / level.sigma)


def gaussian(mean, std):
    r"""The best estimate of x0 if the data are N(mean, std^2), whatever the family of the levels."""

    def denoise(x, level):
        variance = (level.alpha * std) ** 2 + level.sigma**2
        x0 = mean + level.alpha * std**2 / variance * (x - level.alpha * mean)
        return x0, (x - level.alpha * x0) / level.sigma

    return denoise


def silent():
    raise AssertionError("this sampler draws no noise")
