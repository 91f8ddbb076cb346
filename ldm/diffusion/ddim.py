r"""DDIM: the sampler without noise.

DDPM's training fixes only the distribution of each $x_t$ given $x_0$, not how consecutive ones hang together.
DDIM picks, among all processes that fit, one that goes from noise to picture without adding any fresh noise. Either
sampler may skip timesteps; but what DDPM's noise disturbs at each stride it needs many strides to mend, and DDIM
paints well in twenty (Song et al. 2021, table 1).

Source: Song, Meng & Ermon 2021.
"""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.sampling import Denoise, Noise, Project, Step, Stride, reverse_process, unchanged
from ldm.errors import LdmError


def ddim_sigma(
    alpha_bar_t: Float[Tensor, ""], alpha_bar_prev: Float[Tensor, ""], eta: float
) -> Float[Tensor, ""]:
    r"""The noise that a step adds:

    $$\sigma_t = \eta \sqrt{\frac{1-\bar\alpha_{t'}}{1-\bar\alpha_t}} \sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_{t'}}}$$

    eta 0: none; eta 1: as much as DDPM. Source: Song et al. 2021, eq. 16.
    """
    return eta * ((1 - alpha_bar_prev) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_prev)).sqrt()


def ddim_step(
    x0: Float[Tensor, "b *shape"],
    eps: Float[Tensor, "b *shape"],
    alpha_bar_t: Float[Tensor, ""],
    alpha_bar_prev: Float[Tensor, ""],
    eta: float = 0.0,
    noise: Float[Tensor, "b *shape"] | None = None,
) -> Float[Tensor, "b *shape"]:
    r"""One step, from noise level t to the lower level t':

    $$x_{t'} = \sqrt{\bar\alpha_{t'}}\,\hat x_0
             + \sqrt{1 - \bar\alpha_{t'} - \sigma_t^2}\;\hat\epsilon + \sigma_t\, z$$

    "The picture guessed now, with the noise guessed now, but less of it." Source: Song et al. 2021, eq. 12.
    Raises `LdmError` for an eta outside [0, 1], and for eta > 0 without a `noise` z to add.
    """
    if not 0 <= eta <= 1:
        raise LdmError(f"eta is {eta}; expected 0 (no noise) to 1 (as much as DDPM)")
    if eta > 0 and noise is None:
        raise LdmError(f"eta is {eta}, so this step adds noise, and was given none; pass `noise`, or eta=0")
    sigma = ddim_sigma(alpha_bar_t, alpha_bar_prev, eta)
    # Where all the noise is new (eta = 1 from alpha_bar = 0) rounding may leave less than nothing for the old one.
    old_noise = (1 - alpha_bar_prev - sigma**2).clamp(min=0).sqrt()
    x_prev = alpha_bar_prev.sqrt() * x0 + old_noise * eps
    return x_prev if noise is None else x_prev + sigma * noise


def ddim(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    path: Sequence[Stride],
    noise: Noise,
    project: Project = unchanged,
    eta: float = 0.0,
) -> Iterator[Step]:
    r"""Sample with DDIM. Its usual path ends at $\bar\alpha_0$, not 1, Stable Diffusion's choice: a touch of noise
    stays.
    """

    def update(x_t: Tensor, x0: Tensor, eps: Tensor, alpha_bar_t: Tensor, alpha_bar_prev: Tensor) -> Tensor:
        return ddim_step(x0, eps, alpha_bar_t, alpha_bar_prev, eta, noise() if eta > 0 else None)

    return reverse_process(update, denoise, x_T, path, project)
