r"""Sigma schedules: formulas that pick the noise levels themselves, instead of timesteps.

k-diffusion's samplers solve a differential equation in the ratio of noise to signal, $\sigma / \alpha$ (`ve_sigma` of a
`Level`; everything here is in this unit), and may visit any ratios. Each function below returns `count` of them, from
the largest down to the smallest; the timestep given to the network follows from each ratio (`time_of`). They differ in
where they are dense. Of 8 steps of Stable Diffusion, from 14.6 to 0.03, those below 1 are spent on details:

    karras        14.6  7.90  4.03  1.91  0.83  0.32  0.11  0.03
    exponential   14.6  6.01  2.47  1.02  0.42  0.17  0.07  0.03
    kl_optimal    14.6  3.49  1.88  1.19  0.78  0.48  0.24  0.03
    sgm_uniform   14.6  7.30  4.09  2.50  1.62  1.07  0.70  0.40
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from torch import Tensor

Numbers = Float[np.ndarray, "n"]
Table = Float[np.ndarray, "T"]  # the ratio at each timestep of the model, rising
LARGEST_SIGMA = 4096.0  # stands for infinity where a finite sigma is needed, as in diffusers


def sigma_table(alpha_bar: Float[Tensor, "T"]) -> Table:
    r"""$\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$ of every timestep, rising, in float64; at most `LARGEST_SIGMA`."""
    table = np.maximum(alpha_bar.detach().cpu().double().numpy(), 1 / (1 + LARGEST_SIGMA**2))
    return np.sqrt((1 - table) / table)


def time_of(sigma: Numbers, table: Table) -> Numbers:
    r"""The (fractional) timestep whose noise level is sigma, interpolating $\log\sigma$ linearly in the table.

    k-diffusion does the same, so that a network trained on whole timesteps can be evaluated at levels between them.
    """
    return np.interp(np.log(sigma), np.log(table), np.arange(len(table)))


def sigma_of(t: Numbers, table: Table) -> Numbers:
    """The noise level of a (fractional) timestep: the inverse of `time_of`."""
    return np.exp(np.interp(t, np.arange(len(table)), np.log(table)))


def karras_sigmas(count: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Numbers:
    r"""`count` noise levels from `sigma_max` down to `sigma_min`, closer and closer together:

    $$\sigma_i = \left(\sigma_{\max}^{1/\rho} + \tfrac{i}{n-1} \left(\sigma_{\min}^{1/\rho}
                 - \sigma_{\max}^{1/\rho}\right)\right)^{\rho}, \qquad i = 0 \ldots n-1$$

    Evenly spaced $\rho$-th roots: few steps are spent where there is almost nothing but noise, and many where the
    details appear. Source: Karras et al. 2022, eq. 5 (with rho = 7 from their table 1).
    """
    ramp = np.linspace(0, 1, count)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return (high + ramp * (low - high)) ** rho


def exponential_sigmas(count: int, sigma_min: float, sigma_max: float) -> Numbers:
    r"""Evenly spaced logarithms: each level is the same fraction of the one before.

    $$\sigma_i = \sigma_{\max} \left(\frac{\sigma_{\min}}{\sigma_{\max}}\right)^{i/(n-1)}$$

    So all steps have the same length h in $\lambda = -\log\sigma$, the variable of DPM-Solver++ (`dpmpp_2m.py`).
    Source: k-diffusion's `get_sigmas_exponential`.
    """
    return np.exp(np.linspace(np.log(sigma_max), np.log(sigma_min), count))


def kl_optimal_sigmas(count: int, sigma_min: float, sigma_max: float) -> Numbers:
    r"""Evenly spaced arctangents, so most levels lie around 1, where signal and noise are equally strong:

    $$\sigma_i = \tan\!\left(\arctan\sigma_{\max}
                 + \tfrac{i}{n-1} (\arctan\sigma_{\min} - \arctan\sigma_{\max})\right)$$

    For data from a standard normal distribution these are the levels that minimise an upper bound on the KL divergence
    from the true process to the sampled one. Images are not normal; it is a heuristic for them. Source: Sabour et al.
    2024 (Align Your Steps), section 3, for Gaussian data.
    """
    return np.tan(np.linspace(np.arctan(sigma_max), np.arctan(sigma_min), count))


def sgm_uniform_sigmas(count: int, table: Table) -> Numbers:
    """The levels of evenly spaced timesteps, 999, 949.05, ..., 49.95 for 20 of 1000: linspace without its last, 0.

    Source: Stability AI's `generative-models`, in ComfyUI's form. Few-step models such as SDXL Turbo expect it.
    """
    return sigma_of(np.linspace(len(table) - 1, 0, count + 1)[:-1], table)


SIGMA_SCHEDULES: dict[str, Callable[[int, Table], Numbers]] = {
    "karras": lambda count, table: karras_sigmas(count, table[0], table[-1]),
    "exponential": lambda count, table: exponential_sigmas(count, table[0], table[-1]),
    "kl_optimal": lambda count, table: kl_optimal_sigmas(count, table[0], table[-1]),
    "sgm_uniform": sgm_uniform_sigmas,
}
