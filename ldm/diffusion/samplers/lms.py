r"""LMS (linear multistep): a polynomial through the last directions, integrated over the coming step.

The same idea as PLMS (`ldm/diffusion/samplers/plms.py`), applied to $dy/ds = \hat\epsilon$ (see `euler.py`) with steps
of any length: the weights of the earlier directions are not constants but depend on the levels visited.

Source: the Adams-Bashforth formulas for uneven steps (Hairer, Norsett & Wanner 1993, section III.5), as in
k-diffusion's `sample_lms`, which integrates numerically; here the polynomials are integrated exactly.
"""

from collections.abc import Sequence

from numpy.polynomial import Polynomial

from ldm.diffusion.level import Latent, Level
from ldm.diffusion.sample import Ahead, Denoise, NoiseFn, Past
from ldm.diffusion.samplers.euler import euler


def lms_weights(sigmas: Sequence[float], next_sigma: float) -> list[float]:
    r"""The weight of each direction, for a step from the last of `sigmas` to `next_sigma`:

    $$w_j = \int_{s}^{s'} \prod_{k \ne j} \frac{\tau - s_k}{s_j - s_k}\, d\tau$$

    the integral of Lagrange's polynomial that is 1 at level j and 0 at the others. `sigmas` are the VE noise levels of
    the directions, the newest last, all different.
    """
    # Measured from the step's start; with large sigmas the integral would be a small difference of large numbers.
    nodes, length = [s - sigmas[-1] for s in sigmas], next_sigma - sigmas[-1]
    weights = []
    for j, node in enumerate(nodes):
        lagrange = Polynomial([1.0])
        for other in nodes[:j] + nodes[j + 1 :]:
            lagrange *= Polynomial([-other, 1.0]) / (node - other)
        weights.append(float(lagrange.integ()(length)))
    return weights


def lms_step(
    x_t: Latent, eps: Sequence[Latent], weights: Sequence[float], level: Level, next_level: Level
) -> Latent:
    r"""One step, with the weights of `lms_weights`:

    $$x' = \alpha' \left( \frac{x_t}{\alpha} + \sum_j w_j\,\hat\epsilon_j \right)$$
    """
    y = x_t / level.alpha
    for weight, direction in zip(weights, eps, strict=True):
        y = y + weight * direction
    return next_level.alpha * y


def lms(past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn, order: int = 4) -> Latent:
    """LMS's update, from the last `order` directions (fewer at the start). A step from pure noise is Euler's."""
    now, next_level = past[-1], ahead[0]
    if now.level.alpha == 0:
        return euler(past, ahead, denoise, noise_fn)
    weights = lms_weights([e.level.ve_sigma for e in past[-order:]], next_level.ve_sigma)
    return lms_step(now.x_t, [e.eps for e in past[-order:]], weights, now.level, next_level)
