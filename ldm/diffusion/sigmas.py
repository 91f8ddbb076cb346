r"""The other way to write a noisy latent, and the noise levels that go with it.

Here a latent at a noise level is $x = \sqrt{\bar\alpha}\,x_0 + \sqrt{1-\bar\alpha}\,\epsilon$: the more noise comes in,
the more the picture fades, and the variance stays 1. The papers on which Euler, Heun and their kin rest leave the
picture as bright as it is and pile the noise on top of it:

$$y = x_0 + \sigma\,\epsilon = \frac{x}{\sqrt{\bar\alpha}}, \qquad
  \sigma = \sqrt{\frac{1-\bar\alpha}{\bar\alpha}}, \qquad \bar\alpha = \frac{1}{1 + \sigma^2}$$

The same latent, in another unit. In this form the way from noise to picture is as plain as an ordinary differential
equation can be,

$$\frac{dy}{d\sigma} = \frac{y - \hat x_0(y, \sigma)}{\sigma} = \hat\epsilon,$$

"taking off a bit of noise moves the latent along the noise", and a sampler is any of the textbook ways to solve it,
from the largest $\sigma$ (14.6 in Stable Diffusion) down to 0. Our samplers hand out and take $x$, the form that the
network reads, whatever they compute in: so whoever watches or corrects a latent on the way need not know which
sampler is at work.

Sources: Song et al. 2021 (DDIM), eqs. 13 and 14; Karras et al. 2022, eqs. 1 and 3 with s(t) = 1.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.sampling import Latent, Scalar, Stride, Time
from ldm.diffusion.schedule import spaced_timesteps
from ldm.errors import LdmError

Numbers = Float[np.ndarray, "n"]


def sigma_of(alpha_bar: Scalar) -> Scalar:
    r"""$\sigma = \sqrt{(1-\bar\alpha)/\bar\alpha}$: noise per picture, from 0 (clean) upwards."""
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def piled(x: Latent, alpha_bar: Scalar) -> Latent:
    r"""From our form to the other: $y = x / \sqrt{\bar\alpha}$, the picture at full brightness under its noise."""
    return x / alpha_bar.sqrt()


def faded(y: Latent, alpha_bar: Scalar) -> Latent:
    r"""And back: $x = \sqrt{\bar\alpha}\,y$."""
    return y * alpha_bar.sqrt()


def sigma_table(alpha_bar: Float[Tensor, "T"]) -> Float[np.ndarray, "T"]:
    r"""$\sigma_t$ of every timestep, rising, in float64.

    Where a schedule ends in noise alone, $\bar\alpha = 0$, sigma is infinite. The table has 4096 there, as the
    reference has ($2^{-24}$ for 0), because levels in between, and Karras levels, need a number. A path that begins
    at that timestep itself begins at $\bar\alpha = 0$.
    """
    table = np.maximum(alpha_bar.detach().cpu().double().numpy(), 2.0**-24)
    return np.sqrt((1 - table) / table)


def time_of(sigma: Numbers, table: Float[np.ndarray, "T"]) -> Numbers:
    r"""The time whose noise level is sigma: the table read backwards, $\log\sigma$ a straight line between timesteps.

    That is how k-diffusion asks a network that was trained on whole timesteps about levels in between.
    """
    return np.interp(np.log(sigma), np.log(table), np.arange(len(table)))


def karras_sigmas(count: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Numbers:
    r"""`count` noise levels from `sigma_max` down to `sigma_min`, ever closer together:

    $$\sigma_i = \left(\sigma_{\max}^{1/\rho} + \tfrac{i}{n-1} \left(\sigma_{\min}^{1/\rho}
                 - \sigma_{\max}^{1/\rho}\right)\right)^{\rho}, \qquad i = 0 \ldots n-1$$

    Evenly spaced $\rho$-th roots: few of the steps are spent where there is nearly nothing but noise, and many where
    the details appear. Source: Karras et al. 2022, eq. 5 (with rho = 7 from their table 1).
    """
    ramp = np.linspace(0, 1, count)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return (high + ramp * (low - high)) ** rho


def sigma_path(count: int, alpha_bar: Float[Tensor, "T"], karras: bool = False) -> list[Stride]:
    r"""The path of the samplers that compute with sigma: `count` strides, the last one to 0.

    Evenly spaced times from the end of the schedule to its beginning, fractions as they come, with sigma a straight
    line between timesteps; or with `karras` the levels of `karras_sigmas` between the same ends. Raises `LdmError`
    unless 1 <= count <= T. (The reference's path of one stride begins at t = 0, where next to no noise is taken off;
    ours at the noisiest timestep.)
    """
    table, last = sigma_table(alpha_bar), len(alpha_bar) - 1
    whole = [t for t, _ in spaced_timesteps(count, len(alpha_bar), "trailing")]
    # A schedule that ends in pure noise must be entered there (Lin et al. 2024, section 3.3).
    times = np.array(whole) if alpha_bar[-1] == 0 else np.linspace(last, 0, count)
    sigmas = np.interp(times, np.arange(last + 1), table)
    if karras:
        sigmas = karras_sigmas(count, sigmas[-1], sigmas[0])
        times = time_of(sigmas, table)
    elif alpha_bar[-1] == 0:
        sigmas[0] = np.inf
    return levels_to_path(times.tolist(), sigmas, alpha_bar)


def whole_sigma_path(count: int, alpha_bar: Float[Tensor, "T"], karras: bool = False) -> list[Stride]:
    r"""The path of DPM++ 2M, as the reference has it: whole timesteps; of count + 1 points the last is left out.

    With `karras` the network is told the nearest whole timestep, although the level lies beside it. Raises `LdmError`
    unless 1 <= count < T.
    """
    table, last = sigma_table(alpha_bar), len(alpha_bar) - 1
    if count > last:
        raise LdmError(
            f"{count} sampling steps; with this sampler the model's schedule allows at most {last}"
        )
    times = np.array([t for t, _ in spaced_timesteps(count, last + 1, "trailing")])
    if alpha_bar[-1] > 0:
        times = np.linspace(0, last, count + 1).round()[:0:-1].astype(int)
    sigmas = table[times]
    if karras:
        sigmas = karras_sigmas(count, table[0], table[-1])
        times = time_of(sigmas, table).round().astype(int)
    elif alpha_bar[-1] == 0:
        sigmas[0] = np.inf
    return levels_to_path(times.tolist(), sigmas, alpha_bar)


def levels_to_path(times: Sequence[Time], sigmas: Numbers, alpha_bar: Float[Tensor, "T"]) -> list[Stride]:
    r"""Strides from each noise level to the next, and from the last one to 0; in the dtype and place of `alpha_bar`."""
    levels = alpha_bar.new_tensor(np.append(1 / (1 + sigmas**2), 1.0))
    return [Stride(t, levels[i], levels[i + 1]) for i, t in enumerate(times)]
