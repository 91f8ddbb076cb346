r"""LMS: a polynomial through the last directions, integrated over the coming stride.

The same idea as PLMS (`ldm/diffusion/plms.py`), in the form $dy/d\sigma = \hat\epsilon$ and for strides of any length:
the weights of the remembered directions are not fixed numbers but integrals over the levels that were visited.

Source: the Adams-Bashforth formulas for uneven steps (Hairer, Norsett & Wanner 1993, section III.5), as in
k-diffusion's `sample_lms`, which integrates numerically; a polynomial needs no such help.
"""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from numpy.polynomial import Polynomial
from torch import Tensor

from ldm.diffusion.sampling import Denoise, Noise, Project, Step, Stride, unchanged
from ldm.diffusion.sigmas import faded, piled, sigma_of


def lms_weights(sigmas: Sequence[float], sigma_prev: float) -> list[float]:
    r"""The weight of each direction, for a stride from the last of `sigmas` to `sigma_prev`:

    $$w_j = \int_{\sigma}^{\sigma'} \prod_{k \ne j} \frac{s - \sigma_k}{\sigma_j - \sigma_k}\, ds$$

    the integral of Lagrange's polynomial that is 1 at the level j and 0 at the others. `sigmas`: the levels at which
    the directions were seen, the newest last, all different.
    """
    # Counted from the stride's start: far from 0, powers of sigma would be differences of large numbers.
    nodes, length = [s - sigmas[-1] for s in sigmas], sigma_prev - sigmas[-1]
    weights = []
    for j, node in enumerate(nodes):
        lagrange = Polynomial([1.0])
        for other in nodes[:j] + nodes[j + 1 :]:
            lagrange *= Polynomial([-other, 1.0]) / (node - other)
        weights.append(float(lagrange.integ()(length)))
    return weights


def lms_step(
    y: Float[Tensor, "b *shape"], eps: Sequence[Float[Tensor, "b *shape"]], weights: Sequence[float]
) -> Float[Tensor, "b *shape"]:
    r"""One step, with the weights of `lms_weights`:

    $$y' = y + \sum_j w_j\,\hat\epsilon_j$$
    """
    for weight, direction in zip(weights, eps, strict=True):
        y = y + weight * direction
    return y


def lms(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    path: Sequence[Stride],
    noise: Noise,
    project: Project = unchanged,
    order: int = 4,
) -> Iterator[Step]:
    r"""Sample with LMS, remembering the last `order` directions (fewer at the start). It draws no noise."""
    sigmas = [sigma_of(stride.alpha_bar).item() for stride in path]
    x = x_T
    history: list[Tensor] = []
    for i, stride in enumerate(path):
        x0, eps = denoise(x, stride.t, stride.alpha_bar)
        history = [*history, eps][-order:]
        weights = lms_weights(sigmas[i + 1 - len(history) : i + 1], sigma_of(stride.alpha_bar_prev).item())
        y = lms_step(piled(x, stride.alpha_bar), history, weights)
        x_prev = project(faded(y, stride.alpha_bar_prev), stride.alpha_bar_prev)
        yield Step(stride.t, stride.alpha_bar, x, x0, x_prev)
        x = x_prev
