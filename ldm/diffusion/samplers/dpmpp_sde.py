r"""DPM++ SDE: two evaluations per step of the SDE, the second one halfway.

What Heun's method is to Euler's, this is to Euler ancestral. A trial step, with noise, leads halfway to the next level
(in $\lambda$). The estimate of $x_0$ made there, in the middle of the step, is a better one for the whole step; the
step is then taken from the start with that estimate, and with the noise of the whole way. Both noises are pieces of the
same path (`ldm/diffusion/brownian.py`): the first lies within the second.

Source: Lu et al. 2022 (DPM-Solver++) for the SDE; this two-stage form is k-diffusion's `sample_dpmpp_sde` with r = 1/2,
for which the second stage uses the second estimate alone.
"""

import math

from ldm.diffusion.level import Latent, Level
from ldm.diffusion.sample import Ahead, Denoise, NoiseFn, Past
from ldm.diffusion.samplers.euler_ancestral import euler_ancestral_step
from ldm.errors import LdmError


def halfway(level: Level, next_level: Level) -> Level:
    r"""The level in the middle between two, in $\lambda$: its ratio of noise to signal is their geometric mean.

    $$\lambda_m = \tfrac12 (\lambda + \lambda'), \qquad s_m = \sqrt{s\,s'}$$

    Raises `LdmError` for a level that does not know its schedule, which says what timestep that is.
    """
    if level.schedule is None:
        raise LdmError(
            f"the level at t = {level.t:g} has no schedule; expected levels as from `sampler_levels`"
        )
    return level.schedule.at_ratio(math.sqrt(level.ve_sigma * next_level.ve_sigma))


def dpmpp_sde(past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn) -> Latent:
    r"""DPM++ SDE's update. The last step is Euler ancestral's, so n steps take 2n - 1 evaluations.

    So is a step from pure noise: between it and another level there is no middle.
    """
    now, next_level = past[-1], ahead[0]
    x0, eps = now.x0, now.eps
    if next_level.sigma and now.level.alpha:
        middle = halfway(now.level, next_level)
        x_mid = euler_ancestral_step(x0, eps, now.level, middle, noise_fn(now.level, middle))
        x0, _ = denoise(x_mid, middle)
        eps = (
            now.x_t - now.level.alpha * x0
        ) / now.level.sigma  # what is noise at the start, by that estimate
    return euler_ancestral_step(x0, eps, now.level, next_level, noise_fn(now.level, next_level))
