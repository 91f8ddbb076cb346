r"""Euler ancestral ("Euler a"): steps below the target noise level, then adds noise back up to it.

How far below? Just far enough that the step has the mean and variance of $q(x' \mid x_t, x_0)$, DDPM's step
("ancestral" sampling). As in DDPM, fresh noise overwrites earlier errors; and the image does not converge: with more
steps it becomes a different image. It is DDIM with eta = 1, at Euler's levels.

Source: k-diffusion's `sample_euler_ancestral`; the variance is that of Ho et al. 2020, eq. 7.
"""

import math

from ldm.diffusion.level import Latent, Level
from ldm.diffusion.sample import Ahead, Denoise, NoiseFn, Past


def down_and_up(level: Level, next_level: Level) -> tuple[float, float]:
    r"""How much noise is left after Euler's step down, and how much fresh noise then brings it back up to $\sigma'$:

    $$\sigma_{down} = \sigma' \cdot \frac{\alpha\,\sigma'}{\alpha'\,\sigma}, \qquad
      \sigma_{up}^2 = \sigma'^2 - \sigma_{down}^2$$

    The variances of independent noises add up, so the latent arrives at $\sigma'$. In a step to a clean latent both
    are 0.
    """
    down = next_level.sigma * (level.alpha * next_level.sigma) / (next_level.alpha * level.sigma)
    return down, math.sqrt(next_level.sigma**2 - down**2)


def euler_ancestral_step(x0: Latent, eps: Latent, level: Level, next_level: Level, noise: Latent) -> Latent:
    r"""One step down, and up again with fresh noise z:

    $$x' = \alpha'\,\hat x_0 + \sigma_{down}\,\hat\epsilon + \sigma_{up}\, z$$
    """
    down, up = down_and_up(level, next_level)
    return next_level.alpha * x0 + down * eps + up * noise


def euler_ancestral(past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn) -> Latent:
    """Euler ancestral's update; it draws noise at each step."""
    now = past[-1]
    return euler_ancestral_step(now.x0, now.eps, now.level, ahead[0], noise_fn())
