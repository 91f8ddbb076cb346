r"""DDPM: ancestral sampling, with fresh noise at every step.

If we knew $x_0$, the step back from $x_t$ would be a Gaussian that Bayes' rule gives exactly. We do not, so the
network's estimate takes its place. The fresh noise does not refine that estimate (DDIM works without it); it overwrites
errors of earlier steps.

In the equations of all samplers, $\alpha$ and $\sigma$ are the weights of the level where a step starts, and a prime
marks the next, less noisy level. With the smaller of its two variances, DDPM's step is DDIM's with eta = 1 and that of
Euler ancestral: one formula, at different levels.

Source: Ho, Jain & Abbeel 2020, sections 2 and 3.2.
"""

import math

from ldm.diffusion.level import Latent, Level
from ldm.diffusion.sample import Ahead, Denoise, NoiseFn, Past
from ldm.errors import LdmError


def step_variance(level: Level, next_level: Level) -> float:
    r"""The variance of the noise that the forward process adds on its way from `next_level` up to `level`:

    $$\beta = \sigma^2 - \left(\frac{\alpha}{\alpha'}\right)^2 \sigma'^2$$

    For neighbouring timesteps of a VP schedule it is $\beta_t$; for any two, $1 - \bar\alpha_t / \bar\alpha_{t'}$.
    """
    return level.sigma**2 - (level.alpha / next_level.alpha * next_level.sigma) ** 2


def posterior(x_t: Latent, x0: Latent, level: Level, next_level: Level) -> tuple[Latent, float]:
    r"""Mean and variance of $q(x' \mid x_t, x_0)$, for the step from `level` to the less noisy `next_level`:

    $$\tilde\mu = \frac{\alpha'\,\beta}{\sigma^2}\,x_0 + \frac{\alpha\,\sigma'^2}{\alpha'\,\sigma^2}\,x_t,
      \qquad \tilde\beta = \frac{\sigma'^2}{\sigma^2}\,\beta$$

    with the $\beta$ of `step_variance`. Source: Ho et al. 2020, eqs. 6 and 7; Kingma et al. 2021, appendix A, for any
    levels.
    """
    beta = step_variance(level, next_level)
    weight_x0 = next_level.alpha * beta / level.sigma**2
    weight_x_t = level.alpha * next_level.sigma**2 / (next_level.alpha * level.sigma**2)
    return weight_x0 * x0 + weight_x_t * x_t, next_level.sigma**2 / level.sigma**2 * beta


def ddpm_step(
    x_t: Latent, x0: Latent, level: Level, next_level: Level, noise: Latent, variance: str = "fixed_small"
) -> Latent:
    r"""One step back, with fresh noise z:

    $$x' = \tilde\mu(x_t, \hat x_0) + \sqrt{w}\, z$$

    The variance w is $\tilde\beta$ (`fixed_small`: optimal if all images are the same) or $\beta$ (`fixed_large`:
    optimal if images are white noise). The best value lies between, and with many steps the choice hardly matters. A
    step to a clean latent adds no noise. Source: Ho et al. 2020, algorithm 2 and section 3.2. Raises `LdmError` for any
    other `variance`.
    """
    mean, small = posterior(x_t, x0, level, next_level)
    match variance:
        case "fixed_small":
            return mean + math.sqrt(small) * noise
        case "fixed_large":
            # At the step to a clean latent beta is not 0, unlike beta-tilde.
            large = step_variance(level, next_level) if next_level.sigma else 0.0
            return mean + math.sqrt(large) * noise
    raise LdmError(f"DDPM variance {variance!r}; expected 'fixed_small' or 'fixed_large'")


def ddpm(
    past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn, variance: str = "fixed_small"
) -> Latent:
    """DDPM's update."""
    now = past[-1]
    return ddpm_step(now.x_t, now.x0, now.level, ahead[0], noise_fn(), variance)
