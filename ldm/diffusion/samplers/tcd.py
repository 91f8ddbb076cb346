r"""TCD (trajectory consistency distillation): LCM with as much noise as one likes.

A latent consistency model only knows how to jump to the end of the ODE, so LCM has to noise each jump's result again,
and errors pile up with the steps. TCD distils a network that can jump to *any* lower level s. A step goes from t past
its target t' down to s, and then adds just enough noise to come back up to t'. How far past is $\gamma$ (`eta`): with 0
the step stops at t' and adds no noise, with 1 it goes to the end, nearly as LCM does.

It works with models distilled by TCD, and with LoRAs such as Hyper-SD's one-step one ($\gamma = 1$).

Source: Zheng et al. 2024, algorithm 4 (strategic stochastic sampling).
"""

import math

from ldm.diffusion.level import Latent, Level
from ldm.diffusion.sample import Ahead, Denoise, NoiseFn, Past
from ldm.errors import LdmError


def tcd_step(x0: Latent, eps: Latent, below: Level, next_level: Level, noise: Latent) -> Latent:
    r"""Down to the level `below`, without noise, and up to the next level with fresh noise z:

    $$x_s = \alpha_s\,\hat x_0 + \sigma_s\,\hat\epsilon, \qquad
      x' = \frac{\alpha'}{\alpha_s}\,x_s + \sqrt{\sigma'^2 - \left(\frac{\alpha'}{\alpha_s}\,\sigma_s\right)^2}\;z$$

    The way up is that of the forward process. Source: Zheng et al. 2024, algorithm 4.
    """
    scale = next_level.alpha / below.alpha
    added = math.sqrt(max(0.0, next_level.sigma**2 - (scale * below.sigma) ** 2))
    return scale * below.mix(x0, eps) + added * noise


def tcd(past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn, eta: float = 0.3) -> Latent:
    r"""TCD's update. It turns at the timestep $s = \lfloor (1 - \gamma)\,t' \rfloor$, with $\gamma$ = `eta` in [0, 1].

    The last step ends at timestep 0, where there is nothing below. Raises `LdmError` for an eta outside [0, 1], and for
    a level that does not know its schedule.
    """
    now, next_level = past[-1], ahead[0]
    if not 0 <= eta <= 1:
        raise LdmError(
            f"eta is {eta}; expected 0 (no noise) to 1 (down to the image, and up with fresh noise)"
        )
    if next_level.schedule is None:
        raise LdmError(
            f"the level at t = {next_level.t:g} has no schedule; expected levels as from `sampler_levels`"
        )
    below = next_level.schedule.at_time(math.floor((1 - eta) * next_level.t))
    return tcd_step(now.x0, now.eps, below, next_level, noise_fn())
