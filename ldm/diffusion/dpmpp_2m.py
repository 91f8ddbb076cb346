r"""DPM-Solver++ (2M): the straight part of the way solved exactly, the bent part from two looks.

Between two noise levels, $x$ is a sum of two things: itself, faded, and the picture $\hat x_0$ that the network sees
on the way. The first is known exactly and needs no solver; only $\hat x_0$ must be guessed ahead, and it changes
slowly. In the variable $\lambda = \log(\alpha / \sigma)$, the log of how loud the picture is against the noise, that
integral is short work: $\hat x_0$ as a constant gives DDIM, as a straight line through this look and the last one
("2M": second order, multistep) gives this sampler. It draws well in 15 to 25 steps.

Here alpha is $\sqrt{\bar\alpha}$ and sigma is $\sqrt{1 - \bar\alpha}$, as in the paper (not the sigma of
`ldm/diffusion/sigmas.py`, which is their quotient).

Source: Lu et al. 2022 (DPM-Solver++), algorithm 2.
"""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.ddim import ddim_step
from ldm.diffusion.sampling import Denoise, Noise, Project, Step, Stride, unchanged


def log_snr(alpha_bar: Float[Tensor, ""]) -> Float[Tensor, ""]:
    r"""How clear the picture is, as a logarithm; it rises as noise is taken away:

    $$\lambda = \log\frac{\alpha}{\sigma} = \tfrac12 \log\frac{\bar\alpha}{1-\bar\alpha}$$
    """
    return (alpha_bar.log() - (1 - alpha_bar).log()) / 2


def dpmpp_2m_step(
    x_t: Float[Tensor, "b *shape"],
    x0: Float[Tensor, "b *shape"],
    x0_before: Float[Tensor, "b *shape"],
    alpha_bar_before: Float[Tensor, ""],
    alpha_bar_t: Float[Tensor, ""],
    alpha_bar_prev: Float[Tensor, ""],
) -> Float[Tensor, "b *shape"]:
    r"""One step, with the picture guessed now and the one guessed one stride before:

    $$x_{t'} = \frac{\sigma'}{\sigma}\,x_t - \alpha' (e^{-h} - 1)\,D, \qquad
      D = \hat x_0 + \frac{h}{2 h_{before}} (\hat x_0 - \hat x_0^{before})$$

    $h = \lambda' - \lambda$ is the length of this stride and $h_{before}$ that of the last one. With $D = \hat x_0$
    it is DDIM's step. Source: Lu et al. 2022, algorithm 2.
    """
    at = log_snr(alpha_bar_t)
    h, h_before = log_snr(alpha_bar_prev) - at, at - log_snr(alpha_bar_before)
    middle = x0 + h / (2 * h_before) * (x0 - x0_before)  # the line's value halfway along the stride
    ratio = ((1 - alpha_bar_prev) / (1 - alpha_bar_t)).sqrt()
    return ratio * x_t - alpha_bar_prev.sqrt() * (-h).expm1() * middle


def dpmpp_2m(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    path: Sequence[Stride],
    noise: Noise,
    project: Project = unchanged,
    plain_end: bool = True,
) -> Iterator[Step]:
    r"""Sample with DPM-Solver++ (2M); it draws no noise.

    The first stride has nothing to look back at and is DDIM's. So is the last one if `plain_end`; one that leads to the
    clean latent, where lambda is infinite, must be (in the reference: `lower_order_final`, for fewer than 15 steps).
    """
    x, before = x_T, None
    for i, stride in enumerate(path):
        x0, eps = denoise(x, stride.t, stride.alpha_bar)
        at, to = stride.alpha_bar, stride.alpha_bar_prev
        if before is None or (plain_end and i + 1 == len(path)):
            x_prev = ddim_step(x0, eps, at, to)
        else:
            x_prev = dpmpp_2m_step(x, x0, before, path[i - 1].alpha_bar, at, to)
        x_prev = project(x_prev, to)
        yield Step(stride.t, at, x, x0, x_prev)
        x, before = x_prev, x0
