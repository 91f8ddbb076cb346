r"""Prediction types: what the U-Net's output means.

A network that sees $x_t = \alpha\,x_0 + \sigma\,\epsilon$ may predict the noise $\epsilon$, the clean latent $x_0$, or
the velocity v, a mixture of the two (see `training_target`). Since $x_t$ is known, each of them determines the others.
Samplers are given $x_0$ and $\epsilon$, whichever was predicted.

Why three? Near pure noise, an estimate of $\epsilon$ says almost nothing about $x_0$: recovering $x_0$ divides by
$\alpha \to 0$, which magnifies its errors. Near a clean latent, $x_0$ says as little about $\epsilon$. v is useful at
both ends: nearly $\epsilon$ for a clean latent, nearly $-x_0$ for pure noise.
"""

from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.level import Level
from ldm.diffusion.schedule import per_image
from ldm.errors import LdmError


def x0_and_eps(
    prediction_type: str,
    out: Float[Tensor, "b *shape"],
    x_t: Float[Tensor, "b *shape"],
    level: Level,
) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, "b *shape"]]:
    r"""Recover $(\hat x_0, \hat\epsilon)$ from a prediction made at $x_t$, whose noise level is `level`.

    From the noise (Ho et al. 2020, eq. 15), from v (Salimans & Ho 2022, appendix D; VP levels only) and from the clean
    latent:

    $$\hat x_0 = \frac{x_t - \sigma\,\hat\epsilon}{\alpha}$$

    $$\hat x_0 = \alpha\,x_t - \sigma\,\hat v, \qquad \hat\epsilon = \sigma\,x_t + \alpha\,\hat v$$

    $$\hat\epsilon = \frac{x_t - \alpha\,\hat x_0}{\sigma}$$

    Raises `LdmError` for any other prediction type.
    """
    a, s = level.alpha, level.sigma
    match prediction_type:
        case "eps":
            return (x_t - s * out) / a, out
        case "v":
            return a * x_t - s * out, s * x_t + a * out
        case "x0":
            return out, (x_t - a * out) / s
    raise LdmError(f"prediction {prediction_type!r}; expected 'eps', 'v' or 'x0'")


def training_target(
    prediction_type: str,
    x0: Float[Tensor, "b *shape"],
    eps: Float[Tensor, "b *shape"],
    alpha_bar_t: Float[Tensor, "b"],
) -> Float[Tensor, "b *shape"]:
    r"""What the network is trained to predict; `x0_and_eps` recovers $x_0$ and $\epsilon$ from it.

    The noise, the clean latent, or for "v" the mixture

    $$v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1 - \bar\alpha_t}\,x_0$$

    Source: Salimans & Ho 2022, appendix D. Raises `LdmError` for any other prediction type.
    """
    a = per_image(alpha_bar_t, x0)
    match prediction_type:
        case "eps":
            return eps
        case "v":
            return (a.sqrt() * eps - (1 - a).sqrt() * x0).to(x0.dtype)
        case "x0":
            return x0
    raise LdmError(f"prediction {prediction_type!r}; expected 'eps', 'v' or 'x0'")
