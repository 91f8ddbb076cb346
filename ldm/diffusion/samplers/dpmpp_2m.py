r"""DPM-Solver++ (2M): the linear term is integrated exactly, the nonlinear one extrapolated from two evaluations.

The probability flow ODE (see `euler.py`) has an exact solution from one noise level to the next: the old x, scaled
down, plus an integral over the estimates $\hat x_0$ on the way. The first term is known; only $\hat x_0$ has to be
extrapolated, and it changes slowly. In the variable $\lambda = \log(\alpha / \sigma)$ the integral is easy: with a
constant $\hat x_0$ it gives DDIM; with a straight line through this estimate and the last one ("2M": second order,
multistep) it gives this sampler, which makes good images in 15 to 25 steps.

Source: Lu et al. 2022 (DPM-Solver++), algorithm 2.
"""

import math

from ldm.diffusion.level import Latent, Level
from ldm.diffusion.sample import Ahead, Denoise, NoiseFn, Past
from ldm.diffusion.samplers.euler import euler


def dpmpp_2m_step(
    x_t: Latent, x0: Latent, x0_prev: Latent, prev_level: Level, level: Level, next_level: Level
) -> Latent:
    r"""One step, from the estimates at this level and at the previous, noisier one:

    $$x' = \frac{\sigma'}{\sigma}\,x_t - \alpha' (e^{-h} - 1)\,D, \qquad
      D = \hat x_0 + \frac{h}{2 h_{prev}} (\hat x_0 - \hat x_0^{prev})$$

    $h = \lambda' - \lambda$ is the length of this step and $h_{prev}$ that of the previous one. With $D = \hat x_0$
    this is DDIM's step. Source: Lu et al. 2022, algorithm 2.
    """
    h, h_prev = next_level.half_log_snr - level.half_log_snr, level.half_log_snr - prev_level.half_log_snr
    middle = x0 + h / (2 * h_prev) * (x0 - x0_prev)  # the line's value halfway along the step
    return next_level.sigma / level.sigma * x_t - next_level.alpha * math.expm1(-h) * middle


def dpmpp_2m(past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn) -> Latent:
    """DPM-Solver++ (2M)'s update.

    The first step has no earlier estimate, so it is Euler's, which is of first order. So is the last one, as in
    diffusers: lambda is infinite at a clean latent.
    """
    if len(past) == 1 or len(ahead) == 1:
        return euler(past, ahead, denoise, noise_fn)
    prev, now = past[-2:]
    return dpmpp_2m_step(now.x_t, now.x0, prev.x0, prev.level, now.level, ahead[0])
