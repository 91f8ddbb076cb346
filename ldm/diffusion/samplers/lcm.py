r"""LCM: sampling from a latent consistency model in two to eight steps.

A *consistency model* is trained (distilled from a diffusion model) to jump from any point of the probability flow ODE
to its end: from $x_t$, the network predicts the image that the whole ODE would lead to, not the mean of all images that
$x_t$ may come from. So one step is enough. More steps improve details: each adds fresh noise to the prediction, down to
the next level, and jumps again.

With any other model this sampler gives blurred or overdone images. Models that are distilled for it are also trained
with guidance built in, and are sampled at a guidance of 1 (up to 2 for an LCM-LoRA).

Sources: Song et al. 2023 (consistency models), algorithm 1 and appendix C; Luo et al. 2023 (LCM).
"""

import math

from ldm.diffusion.level import Latent, Level, Time
from ldm.diffusion.sample import Ahead, Denoise, NoiseFn, Past

TIME_SCALE = 10  # diffusers' `timestep_scaling`
SIGMA_DATA = 0.5


def boundary_weights(t: Time) -> tuple[float, float]:
    r"""The weights of the latent and of the estimate, with $s = 10\,t$ and $\sigma_{data} = 1/2$:

    $$c_{skip} = \frac{\sigma_{data}^2}{s^2 + \sigma_{data}^2}, \qquad
      c_{out} = \frac{s}{\sqrt{s^2 + \sigma_{data}^2}}$$

    At t = 0 they are 1 and 0, so that an image without noise stays unchanged: the boundary condition of consistency
    models. At t = 19, the lowest timestep of LCM, they are 0.000007 and 0.9999965. Source: Song et al. 2023, appendix
    C; the scale is that of LCM's code.
    """
    s = TIME_SCALE * t
    return SIGMA_DATA**2 / (s**2 + SIGMA_DATA**2), s / math.hypot(s, SIGMA_DATA)


def lcm_step(x_t: Latent, x0: Latent, level: Level, next_level: Level, noise: Latent) -> Latent:
    r"""Jump to the image, then back to the next level with fresh noise z:

    $$x' = \alpha' \left( c_{out}\,\hat x_0 + c_{skip}\,x_t \right) + \sigma' z$$
    """
    skip, out = boundary_weights(level.t)
    return next_level.mix(out * x0 + skip * x_t, noise)


def lcm(past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn) -> Latent:
    """LCM's update; the last step ends at a clean latent, without noise."""
    now = past[-1]
    return lcm_step(now.x_t, now.x0, now.level, ahead[0], noise_fn())
