r"""DPM++ 2M SDE: DPM-Solver++ (2M) for the stochastic differential equation.

DDIM and DPM++ 2M solve the probability flow ODE, which has no noise. With many small steps, DDPM becomes an SDE, whose
noise overwrites errors of earlier steps. In $y = x\,\alpha / \sigma^2$ and $u = (\alpha / \sigma)^2$, which grows from
0 at pure noise, it is as simple as an SDE can be, with a Brownian motion B (`ldm/diffusion/brownian.py`):

$$dy = \hat x_0(y, u)\,du + dB$$

If the estimate were the image itself, this would be $y = u\,x_0 + B(u)$: the image, seen ever more clearly through
noise. As in DPM++ 2M, $\hat x_0$ is a straight line through the last two estimates, and the rest is integrated exactly.
With a constant $\hat x_0$, a step is that of DDPM and Euler ancestral.

Source: Lu et al. 2022, whose "SDE-DPM-Solver++(2M)" this is; k-diffusion's `sample_dpmpp_2m_sde` (midpoint).
"""

import math

from ldm.diffusion.level import Latent, Level
from ldm.diffusion.sample import Ahead, Denoise, NoiseFn, Past
from ldm.errors import LdmError


def dpmpp_2m_sde_step(
    x_t: Latent, x0: Latent, level: Level, next_level: Level, noise: Latent, eta: float = 1.0
) -> Latent:
    r"""One step towards an estimate of $x_0$, with noise z:

    $$x' = \frac{\sigma'}{\sigma}\,e^{-\eta h}\,x_t + \alpha' \left(1 - e^{-(1 + \eta) h}\right) \hat x_0
           + \sigma' \sqrt{1 - e^{-2 \eta h}}\;z$$

    $h = \lambda' - \lambda$ is the length of the step. $\eta = 1$ solves the SDE; with $\eta = 0$ this is the step of
    DPM++ 2M. Raises `LdmError` for an eta outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise LdmError(f"eta is {eta}; expected 0 (no noise) to 1 (as much as DDPM)")
    h = next_level.half_log_snr - level.half_log_snr
    eta_h = eta * h if eta else 0.0  # h is infinite in a step from pure noise or to a clean latent
    x_prev = next_level.sigma / level.sigma * math.exp(-eta_h) * x_t
    x_prev = x_prev - next_level.alpha * math.expm1(-h - eta_h) * x0
    return x_prev + next_level.sigma * math.sqrt(-math.expm1(-2 * eta_h)) * noise


def dpmpp_2m_sde(past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn, eta: float = 1.0) -> Latent:
    r"""DPM++ 2M SDE's update. The noise is that of the path between the two levels.

    The estimate is extrapolated to the middle of the step as in `dpmpp_2m_step`; the first and the last step use the
    newest one alone.
    """
    now, next_level = past[-1], ahead[0]
    x0 = now.x0
    if len(past) > 1 and len(ahead) > 1:
        prev = past[-2]
        h = next_level.half_log_snr - now.level.half_log_snr
        h_prev = now.level.half_log_snr - prev.level.half_log_snr
        x0 = x0 + h / (2 * h_prev) * (x0 - prev.x0)
    return dpmpp_2m_sde_step(now.x_t, x0, now.level, next_level, noise_fn(now.level, next_level), eta)
