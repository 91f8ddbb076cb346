r"""Heun: look ahead, then take the mean of both directions.

Euler goes in the direction of the level it comes from. Heun's method goes there too, asks the network again at the
level it arrives at, and then takes the stride from the start once more, in the mean of both directions. Twice the
work, but the error falls with the square of the number of steps. (Halving the strides of Euler halves its error,
halving those of Heun quarters it.)

Source: Karras et al. 2022, algorithm 1 (and k-diffusion's `sample_heun`).
"""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.euler import euler_step
from ldm.diffusion.sampling import Denoise, Noise, Project, Step, Stride, unchanged
from ldm.diffusion.sigmas import faded, piled, sigma_of


def heun_step(
    y: Float[Tensor, "b *shape"],
    eps: Float[Tensor, "b *shape"],
    eps_there: Float[Tensor, "b *shape"],
    sigma: Float[Tensor, ""],
    sigma_prev: Float[Tensor, ""],
) -> Float[Tensor, "b *shape"]:
    r"""One step from $\sigma$ to $\sigma'$:

    $$y' = y + (\sigma' - \sigma)\,\tfrac12 (\hat\epsilon + \hat\epsilon')$$

    `eps` ($\hat\epsilon$) is the noise guessed at y, `eps_there` ($\hat\epsilon'$) at the end of Euler's step. Source:
    Karras et al. 2022, algorithm 1, line 8.
    """
    return euler_step(y, (eps + eps_there) / 2, sigma, sigma_prev)


def heun(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    path: Sequence[Stride],
    noise: Noise,
    project: Project = unchanged,
) -> Iterator[Step]:
    r"""Sample with Heun's method. n strides ask the network 2n - 1 times: the last one, to level 0, is Euler's."""
    x = x_T
    for i, stride in enumerate(path):
        sigma, sigma_prev = sigma_of(stride.alpha_bar), sigma_of(stride.alpha_bar_prev)
        x0, eps = denoise(x, stride.t, stride.alpha_bar)
        y = piled(x, stride.alpha_bar)
        y_prev = euler_step(y, eps, sigma, sigma_prev)
        if i + 1 < len(path):
            there = path[i + 1]
            _, eps_there = denoise(faded(y_prev, there.alpha_bar), there.t, there.alpha_bar)
            y_prev = heun_step(y, eps, eps_there, sigma, sigma_prev)
        x_prev = project(faded(y_prev, stride.alpha_bar_prev), stride.alpha_bar_prev)
        yield Step(stride.t, stride.alpha_bar, x, x0, x_prev)
        x = x_prev
