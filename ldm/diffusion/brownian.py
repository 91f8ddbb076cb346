r"""Brownian motion: noise that belongs to the way between two levels, not to a step.

A sampler that draws fresh noise at each step gives another image with 20 steps than with 40: the random numbers are
used in another order. The SDE samplers solve a stochastic differential equation, whose noise is a *path*: a Brownian
motion B, one for each image. A step from one level to the next uses the piece of the path between them,

$$z = \frac{B(u') - B(u)}{\sqrt{u' - u}}, \qquad u = \left(\frac{\alpha}{\sigma}\right)^2$$

which is standard normal and independent of the other steps' noise. Two short steps use the same piece as one long step
over both, so with more steps the image converges instead of becoming another one. (Why this u? In it, the noise that
the exact solution gathers over a step is the increment of B: see `dpmpp_2m_sde.py`.)

A path has too many points to be stored, but each can be found by bisection: between two known points, the one in the
middle is normal, with known mean and variance. Its random numbers are seeded by the image's seed and its place in the
tree of bisections, so a point has the same value whatever was asked before.

Seeds do not carry over between programs. k-diffusion and the web interfaces use such a tree too (torchsde's), with
other random numbers, and with $\sigma / \alpha$ as time; diffusers' DPM++ 2M SDE draws fresh noise at each step.

Source: Li et al. 2020b (virtual Brownian tree); the bridge between two points is Lévy's construction.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.level import Level
from ldm.diffusion.sample import NoiseFn

# The path is known between these half_log_snr, at 2**DEPTH points: far denser than the timesteps of any model.
LOWEST, HIGHEST, DEPTH = -10.0, 10.0, 20


def bridge(
    b: Float[Tensor, "*s"],
    b_end: Float[Tensor, "*s"],
    u: float,
    u_mid: float,
    u_end: float,
    z: Float[Tensor, "*s"],
) -> Float[Tensor, "*s"]:
    r"""A point of a path between two known ones, from standard normal z:

    $$B(u_m) = B(u) + r\,(B(u') - B(u)) + \sqrt{r\,(u' - u_m)}\;z, \qquad r = \frac{u_m - u}{u' - u}$$
    """
    share = (u_mid - u) / (u_end - u)
    return b + share * (b_end - b) + math.sqrt(share * (u_end - u_mid)) * z


def brownian(seed: int, shape: Sequence[int], half_log_snr: float) -> tuple[Float[Tensor, "*shape"], float]:
    r"""The point of a seed's path at $\lambda$ (`half_log_snr`), or the last known one before: $B(u)$ and $u$.

    $u = e^{2\lambda}$, and $B(0) = 0$ at pure noise. In float64.
    """

    def normal(place: int) -> Tensor:
        numbers = np.random.Generator(np.random.Philox(key=[seed, place]))
        return torch.from_numpy(numbers.standard_normal(shape))

    if half_log_snr < LOWEST:
        return torch.zeros(*shape, dtype=torch.float64), 0.0
    low, high = LOWEST, HIGHEST
    u, u_end = math.exp(2 * low), math.exp(2 * high)
    b = math.sqrt(u) * normal(0)
    b_end = b + math.sqrt(u_end - u) * normal(1)
    place = 1  # of the interval in the tree; its halves are 2 * place and 2 * place + 1
    for _ in range(DEPTH):
        middle = (low + high) / 2
        u_mid = math.exp(2 * middle)
        b_mid = bridge(b, b_end, u, u_mid, u_end, normal(1 + place))
        if half_log_snr < middle:
            high, u_end, b_end, place = middle, u_mid, b_mid, 2 * place
        else:
            low, u, b, place = middle, u_mid, b_mid, 2 * place + 1
    return b, u


def increment(seed: int, shape: Sequence[int], level: Level, next_level: Level) -> Float[Tensor, "*shape"]:
    r"""The noise z of a seed's path between two levels; see the top of the file. In float64.

    It is 0 if no known point of the path lies between the levels.
    """
    (b, u), (b_next, u_next) = (brownian(seed, shape, each.half_log_snr) for each in (level, next_level))
    return (b_next - b) / math.sqrt(u_next - u) if u_next > u else torch.zeros_like(b)


def with_paths(
    fresh: NoiseFn, seeds: Sequence[int], shape: Sequence[int], dtype: torch.dtype, device: torch.device | str
) -> NoiseFn:
    """`fresh`, which also answers `noise_fn(level, next_level)`: the noise between two levels on each seed's path.

    The numbers depend on the seed and the two levels alone: not on the batch, the steps before, dtype and device.
    """

    def draw(*way: Level) -> Tensor:
        if not way:
            return fresh()
        images = [increment(int(seed), shape, *way).float() for seed in seeds]
        return torch.stack(images).to(device=device, dtype=dtype)

    return draw
