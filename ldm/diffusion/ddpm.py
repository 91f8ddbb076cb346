r"""DDPM: the reverse process as it was first sampled, with fresh noise at every step.

If we knew $x_0$, the step back from $x_t$ would be a Gaussian that Bayes' rule gives exactly. We do not, so the
network's guess stands in for it, and the noise that is added again keeps the guess from being final: at the next
step it can be corrected.

Source: Ho, Jain & Abbeel 2020, sections 2 and 3.2.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.sampling import Denoise, Noise, Project, Step, Stride, reverse_process, unchanged
from ldm.errors import LdmError


def posterior(
    x_t: Float[Tensor, "b *shape"],
    x0: Float[Tensor, "b *shape"],
    alpha_bar_t: Float[Tensor, ""],
    alpha_bar_prev: Float[Tensor, ""],
) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, ""]]:
    r"""Mean and variance of $q(x_{t'} \mid x_t, x_0)$, for the step from t to the lower t':

    $$\tilde\mu = \frac{\sqrt{\bar\alpha_{t'}}\,\beta}{1-\bar\alpha_t}\,x_0
                + \frac{\sqrt{1-\beta}\,(1-\bar\alpha_{t'})}{1-\bar\alpha_t}\,x_t,
      \qquad \tilde\beta = \frac{1-\bar\alpha_{t'}}{1-\bar\alpha_t}\,\beta,
      \qquad \beta = 1 - \frac{\bar\alpha_t}{\bar\alpha_{t'}}$$

    For t' = t - 1 this $\beta$ is $\beta_t$; for a longer stride it is the variance of all the steps in it.
    Source: Ho et al. 2020, eqs. 6 and 7.
    """
    beta = 1 - alpha_bar_t / alpha_bar_prev
    mean = (
        alpha_bar_prev.sqrt() * beta / (1 - alpha_bar_t) * x0
        + (1 - beta).sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t) * x_t
    )
    return mean, (1 - alpha_bar_prev) / (1 - alpha_bar_t) * beta


def ddpm_step(
    x_t: Float[Tensor, "b *shape"],
    x0: Float[Tensor, "b *shape"],
    alpha_bar_t: Float[Tensor, ""],
    alpha_bar_prev: Float[Tensor, ""],
    noise: Float[Tensor, "b *shape"],
    variance: str = "fixed_small",
) -> Float[Tensor, "b *shape"]:
    r"""One step back, with fresh noise z:

    $$x_{t'} = \tilde\mu(x_t, \hat x_0) + \sigma z$$

    $\sigma^2$ is $\tilde\beta$ (`fixed_small`, right if all pictures were one picture) or $\beta$
    (`fixed_large`, right if they were white noise); the truth lies between, and with many steps it hardly
    matters. The step to the end, $\bar\alpha_{t'} = 1$, adds no noise. Source: Ho et al. 2020, algorithm 2 and
    section 3.2. Raises `LdmError` for another `variance`.
    """
    mean, small = posterior(x_t, x0, alpha_bar_t, alpha_bar_prev)
    match variance:
        case "fixed_small":
            sigma = small.sqrt()
        case "fixed_large":
            # beta, but 0 on the step to the end; beta-tilde is 0 there by itself.
            sigma = torch.where(alpha_bar_prev < 1, 1 - alpha_bar_t / alpha_bar_prev, 0.0).sqrt()
        case _:
            raise LdmError(f"DDPM variance {variance!r}; expected 'fixed_small' or 'fixed_large'")
    return mean + sigma * noise


def ddpm(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    path: Sequence[Stride],
    noise: Noise,
    project: Project = unchanged,
    variance: str = "fixed_small",
) -> Iterator[Step]:
    r"""Sample with DDPM. Its usual path ends at the clean latent, $\bar\alpha = 1$."""

    def update(x_t: Tensor, x0: Tensor, eps: Tensor, alpha_bar_t: Tensor, alpha_bar_prev: Tensor) -> Tensor:
        return ddpm_step(x_t, x0, alpha_bar_t, alpha_bar_prev, noise(), variance)

    return reverse_process(update, denoise, x_T, path, project)
