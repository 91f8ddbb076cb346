r"""What the U-Net's output means, and how a prompt is made to count.

A network that sees $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$ may be asked for the noise
$\epsilon$, for the picture $x_0$, or for a mixture of both, $v$. With $x_t$ known, each of them determines the
others; samplers want $x_0$ and $\epsilon$, and never learn which one was predicted.

Why three? Close to pure noise, $\epsilon$ says next to nothing about $x_0$ (it is divided by $\sqrt{\bar\alpha_t}
\to 0$); close to a clean latent, $x_0$ says nothing about $\epsilon$. $v$ is well scaled at both ends.
"""

from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.schedule import per_picture
from ldm.errors import LdmError


def x0_and_eps(
    kind: str,
    out: Float[Tensor, "b *shape"],
    x_t: Float[Tensor, "b *shape"],
    alpha_bar_t: Float[Tensor, ""],
) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, "b *shape"]]:
    r"""Recover $(\hat x_0, \hat\epsilon)$ from any prediction.

    From the noise (Ho et al. 2020, eq. 15), from v (Salimans & Ho 2022, appendix D) and from the picture:

    $$\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\hat\epsilon}{\sqrt{\bar\alpha_t}}$$

    $$\hat x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,\hat v, \qquad
      \hat\epsilon = \sqrt{1-\bar\alpha_t}\,x_t + \sqrt{\bar\alpha_t}\,\hat v$$

    $$\hat\epsilon = \frac{x_t - \sqrt{\bar\alpha_t}\,\hat x_0}{\sqrt{1-\bar\alpha_t}}$$

    Raises `LdmError` for any other kind.
    """
    a, s = alpha_bar_t.sqrt(), (1 - alpha_bar_t).sqrt()
    match kind:
        case "eps":
            return (x_t - s * out) / a, out
        case "v":
            return a * x_t - s * out, s * x_t + a * out
        case "x0":
            return out, (x_t - a * out) / s
    raise LdmError(f"prediction {kind!r}; expected 'eps', 'v' or 'x0'")


def target(
    kind: str,
    x0: Float[Tensor, "b *shape"],
    eps: Float[Tensor, "b *shape"],
    alpha_bar_t: Float[Tensor, "b"],
) -> Float[Tensor, "b *shape"]:
    r"""What the network should have said: the training target that `x0_and_eps` inverts.

    The noise, the picture, or for "v" the mixture

    $$v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1 - \bar\alpha_t}\,x_0$$

    Source: Salimans & Ho 2022, appendix D. Raises `LdmError` for any other kind.
    """
    a = per_picture(alpha_bar_t, x0)
    match kind:
        case "eps":
            return eps
        case "v":
            return (a.sqrt() * eps - (1 - a).sqrt() * x0).to(x0.dtype)
        case "x0":
            return x0
    raise LdmError(f"prediction {kind!r}; expected 'eps', 'v' or 'x0'")


def guide(
    uncond: Float[Tensor, "b *shape"], cond: Float[Tensor, "b *shape"], scale: float
) -> Float[Tensor, "b *shape"]:
    r"""Classifier-free guidance: exaggerate the difference that the prompt makes.

    $$\tilde\epsilon = \epsilon_\varnothing + g\,(\epsilon_c - \epsilon_\varnothing)$$

    `scale` g: 1 is the plain conditional prediction, 0 ignores the prompt, 7.5 is usual. A negative prompt takes
    the place of the empty one, and is moved away from.

    It works on any prediction alike, for at a given $x_t$ all three are linear in one another.

    Source: Saharia et al. 2022, eq. 2, who count like this function, as Stable Diffusion does. The first to write it
    down, Ho & Salimans 2022, eq. 6, count from 0, so their $w = g - 1$:

    $$\tilde\epsilon = (1 + w)\,\epsilon_c - w\,\epsilon_\varnothing$$
    """
    return uncond + scale * (cond - uncond)


def rescale_guidance(
    guided: Float[Tensor, "b *shape"], cond: Float[Tensor, "b *shape"], share: float
) -> Float[Tensor, "b *shape"]:
    r"""Take back what guidance adds in contrast:

    $$\tilde v \leftarrow \phi\, \tilde v\, \frac{\mathrm{std}(v_c)}{\mathrm{std}(\tilde v)} + (1 - \phi)\, \tilde v$$

    A strong guidance inflates the prediction, and its pictures are overexposed. `share` $\phi$: 0 leaves `guided` as it
    is, 1 gives it all of `cond`'s standard deviation (of each picture, over everything else), which looks plain; 0.7 is
    usual, for models of zero terminal SNR. Source: Lin et al. 2024, eqs. 15 and 16.
    """
    dims = tuple(range(1, guided.ndim))
    ratio = cond.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return guided * (share * ratio + (1 - share))
