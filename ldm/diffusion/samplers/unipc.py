r"""UniPC: DPM-Solver++ with a correction that costs nothing.

As in DPM++ 2M, the estimate $\hat x_0$ is extrapolated from the last evaluations and the rest of the ODE is integrated
exactly. The next step evaluates the network at the end of this one. Then the estimate there is known, and instead of
extrapolating one can interpolate: the latent is corrected, and the next step starts from the corrected latent.
That is one order of accuracy more from the same evaluations; other predictor-corrector methods evaluate again at the
corrected latent.

Source: Zhao et al. 2023, for predictions of $x_0$ and with $B(h) = e^{-h} - 1$ ("bh2" in its code and in diffusers).
"""

import math
from collections.abc import Sequence

import numpy as np

from ldm.diffusion.level import Latent, Level
from ldm.diffusion.sample import Ahead, Denoise, Evaluation, NoiseFn, Past


def unipc_weights(ratios: Sequence[float], h: float) -> list[float]:
    r"""The weights $\rho_1 \ldots \rho_p$ of estimates at $r_1 \ldots r_p$, where a step of length h goes from 0 to 1:

    $$\sum_k \rho_k\,r_k^{\,j-1} = \frac{j!\,z\,\varphi_{j+1}(z)}{e^z - 1}, \qquad
      \varphi_1(z) = \frac{e^z - 1}{z}, \quad \varphi_{j+1}(z) = \frac{\varphi_j(z) - 1/j!}{z}, \qquad z = -h$$

    for $j = 1 \ldots p$: an estimate that is a polynomial in $\lambda$ up to degree p is integrated exactly. A single
    weight is 1/2, which it tends to as h does to 0. Source: Zhao et al. 2023, section 3.
    """
    if len(ratios) == 1:
        return [0.5]
    z, right = -h, []
    phi = math.expm1(z) / z
    for j in range(1, len(ratios) + 1):
        phi = (phi - 1 / math.factorial(j)) / z
        right.append(math.factorial(j) * z * phi / math.expm1(z))
    weights: list[float] = np.linalg.solve(np.vander(ratios, increasing=True).T, right).tolist()
    return weights


def mean_x0(start: Evaluation, others: Past, next_level: Level) -> Latent:
    r"""The mean estimate over the step from `start` to the next level, weighted as the ODE weights it:

    $$D = \hat x_0 + \sum_k \rho_k\,\frac{\hat x_0^{(k)} - \hat x_0}{r_k}, \qquad
      r_k = \frac{\lambda_k - \lambda}{\lambda' - \lambda}$$

    from the estimate $\hat x_0$ at the start and the `others`, before the step ($r_k < 0$) or at its end ($r_k = 1$).
    """
    start_lambda = start.level.half_log_snr
    h = next_level.half_log_snr - start_lambda
    ratios = [(other.level.half_log_snr - start_lambda) / h for other in others]
    mean = start.x0
    for weight, ratio, other in zip(unipc_weights(ratios, h) if ratios else (), ratios, others):
        mean = mean + weight / ratio * (other.x0 - start.x0)
    return mean


def unipc_step(x_t: Latent, mean: Latent, level: Level, next_level: Level) -> Latent:
    r"""One step, with the mean estimate of `mean_x0`: $x' = \frac{\sigma'}{\sigma}\,x_t - \alpha' (e^{-h} - 1)\,D$."""
    h = next_level.half_log_snr - level.half_log_snr
    return next_level.sigma / level.sigma * x_t - next_level.alpha * math.expm1(-h) * mean


def unipc(past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn, order: int = 2) -> Latent:
    r"""UniPC's update: correct the step that led here, then step on. `order` is 1, 2 or 3.

    The correction is the difference between the means D with and without the newest estimate. It is added to x, so
    whatever changed x between the steps (inpainting) is kept; diffusers computes x anew. The first and the last step
    are of order 1: there is no earlier estimate, and lambda is infinite at a clean latent.
    """
    now, x = past[-1], past[-1].x_t
    if len(past) > 1:
        start, used = past[-2], min(order, len(past) - 1, len(ahead) + 1)  # the order of the last step
        earlier = past[-1 - used : -2]
        h = now.level.half_log_snr - start.level.half_log_snr
        change = mean_x0(start, [*earlier, now], now.level) - mean_x0(start, earlier, now.level)
        x = x - now.level.alpha * math.expm1(-h) * change
    used = min(order, len(past), len(ahead))
    return unipc_step(x, mean_x0(now, past[-used:-1], ahead[0]), now.level, ahead[0])
