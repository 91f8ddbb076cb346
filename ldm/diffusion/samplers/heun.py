r"""Heun: take a trial step, then step along the mean of the directions at its start and end.

Euler's method follows the direction at the start of the step. Heun's method takes that step as a trial, evaluates the
network again at its end, and then takes the step from the start along the mean of the two directions. That is twice the
work, but the error falls with the square of the step size: twice as many steps halve Euler's error and quarter Heun's.

Source: Karras et al. 2022, algorithm 1 (and k-diffusion's `sample_heun`).
"""

from ldm.diffusion.level import Latent, Level
from ldm.diffusion.sample import Ahead, Denoise, NoiseFn, Past
from ldm.diffusion.samplers.euler import euler


def heun_step(x_t: Latent, eps: Latent, eps_next: Latent, level: Level, next_level: Level) -> Latent:
    r"""One step along the mean of two directions:

    $$x' = \frac{\alpha'}{\alpha}\,x_t + \left(\sigma' - \frac{\alpha'}{\alpha}\,\sigma\right)
           \tfrac12 (\hat\epsilon + \hat\epsilon')$$

    `eps` ($\hat\epsilon$) is the noise estimated at $x_t$, `eps_next` ($\hat\epsilon'$) that at the end of Euler's
    step. Source: Karras et al. 2022, algorithm 1, line 8, times $\alpha'$.
    """
    shrink = next_level.alpha / level.alpha
    return shrink * x_t + (next_level.sigma - shrink * level.sigma) * ((eps + eps_next) / 2)


def heun(past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn) -> Latent:
    r"""Heun's update. The last step is Euler's, so n steps take 2n - 1 evaluations.

    The first step is Euler's too if it starts from pure noise, where the step in $\sigma / \alpha$ is infinitely long.
    """
    now, next_level = past[-1], ahead[0]
    x_euler = euler(past, ahead, denoise, noise_fn)
    if len(ahead) == 1 or now.level.alpha == 0:
        return x_euler
    _, eps_next = denoise(x_euler, next_level)
    return heun_step(now.x_t, now.eps, eps_next, now.level, next_level)
