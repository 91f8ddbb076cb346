r"""Euler ancestral ("Euler a"): at each stride a bit too far down with Euler, and back up with fresh noise.

How far? So that the stride has the mean and the variance of DDPM's step back from $x_t$ given $x_0$ ("ancestral"
sampling): the noise that is added is DDPM's. As there, what a step got wrong is not carried on forever; and the picture
goes on changing, however many steps there are.

Source: k-diffusion's `sample_euler_ancestral`; the variance is that of Ho et al. 2020, eq. 7, in sigmas.
"""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.euler import euler_step
from ldm.diffusion.sampling import Denoise, Noise, Project, Step, Stride, reverse_process, unchanged
from ldm.diffusion.sigmas import faded, piled, sigma_of


def down_and_up(
    sigma: Float[Tensor, ""], sigma_prev: Float[Tensor, ""]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    r"""How far down Euler goes, and how much noise then leads up to $\sigma'$:

    $$\sigma_{up}^2 = \frac{\sigma'^2 (\sigma^2 - \sigma'^2)}{\sigma^2}, \qquad
      \sigma_{down}^2 = \sigma'^2 - \sigma_{up}^2$$

    Independent noises add their variances, so the latent arrives at $\sigma'$.
    """
    up_squared = sigma_prev**2 * (sigma**2 - sigma_prev**2) / sigma**2
    return (sigma_prev**2 - up_squared).sqrt(), up_squared.sqrt()


def euler_ancestral_step(
    y: Float[Tensor, "b *shape"],
    eps: Float[Tensor, "b *shape"],
    sigma: Float[Tensor, ""],
    sigma_prev: Float[Tensor, ""],
    noise: Float[Tensor, "b *shape"],
) -> Float[Tensor, "b *shape"]:
    r"""One step down, and up again with noise z:

    $$y' = y + (\sigma_{down} - \sigma)\,\hat\epsilon + \sigma_{up}\, z$$

    The step to 0 adds no noise.
    """
    down, up = down_and_up(sigma, sigma_prev)
    return euler_step(y, eps, sigma, down) + up * noise


def euler_ancestral(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    path: Sequence[Stride],
    noise: Noise,
    project: Project = unchanged,
) -> Iterator[Step]:
    r"""Sample with Euler ancestral, which draws new noise at each step."""

    def update(x_t: Tensor, x0: Tensor, eps: Tensor, alpha_bar_t: Tensor, alpha_bar_prev: Tensor) -> Tensor:
        sigma, sigma_prev = sigma_of(alpha_bar_t), sigma_of(alpha_bar_prev)
        y = euler_ancestral_step(piled(x_t, alpha_bar_t), eps, sigma, sigma_prev, noise())
        return faded(y, alpha_bar_prev)

    return reverse_process(update, denoise, x_T, path, project)
