r"""Euler: the simplest way to solve a differential equation, and DDIM under another name.

In the form $y = x_0 + \sigma\epsilon$ (see `ldm/diffusion/sigmas.py`) the way from noise to picture is
$dy/d\sigma = \hat\epsilon$: go straight on in that direction as far as the stride is long. Written out, this is DDIM's
step; what sets the two apart in practice is only which levels are visited, and that this one ends at $\sigma = 0$.

Source: Karras et al. 2022, algorithm 1 without its second-order lines 6 to 8 (and k-diffusion's `sample_euler`).
"""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.sampling import Denoise, Noise, Project, Step, Stride, reverse_process, unchanged
from ldm.diffusion.sigmas import faded, piled, sigma_of


def euler_step(
    y: Float[Tensor, "b *shape"],
    eps: Float[Tensor, "b *shape"],
    sigma: Float[Tensor, ""],
    sigma_prev: Float[Tensor, ""],
) -> Float[Tensor, "b *shape"]:
    r"""One step from $\sigma$ to $\sigma'$:

    $$y' = y + (\sigma' - \sigma)\,\hat\epsilon$$

    Source: Karras et al. 2022, algorithm 1, line 5, with $d = (y - \hat x_0) / \sigma = \hat\epsilon$.
    """
    return y + (sigma_prev - sigma) * eps


def euler(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    path: Sequence[Stride],
    noise: Noise,
    project: Project = unchanged,
) -> Iterator[Step]:
    r"""Sample with Euler's method; it draws no noise."""

    def update(x_t: Tensor, x0: Tensor, eps: Tensor, alpha_bar_t: Tensor, alpha_bar_prev: Tensor) -> Tensor:
        y = euler_step(piled(x_t, alpha_bar_t), eps, sigma_of(alpha_bar_t), sigma_of(alpha_bar_prev))
        return faded(y, alpha_bar_prev)

    return reverse_process(update, denoise, x_T, path, project)
