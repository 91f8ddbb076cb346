r"""PLMS: DDIM that remembers, and so bends with the curve. Stable Diffusion 1's own default.

DDIM walks straight ahead in the direction of the noise guessed now, and lands beside a path that bends. The noises
guessed at the last strides tell how the direction has been turning; a line, a parabola, a cubic through them predicts
its mean over the coming stride. The network is asked no more often for it, except once, at the first stride, where
there is nothing to remember.

Source: Liu et al. 2022 (PNDM), section 3, where these strides follow a start of three costly Runge-Kutta strides;
Stable Diffusion's `plms.py` does without them, and that variant is the one here.
"""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.ddim import ddim_step
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.sampling import Denoise, Latent, Noise, Project, Step, Stride, unchanged


def extrapolated_eps(eps: Sequence[Float[Tensor, "b *shape"]]) -> Float[Tensor, "b *shape"]:
    r"""The mean noise to expect over the coming stride, from the guesses at the last ones, the newest last:

    $$\epsilon' = \tfrac12 (3\epsilon_0 - \epsilon_1), \quad
      \tfrac1{12} (23\epsilon_0 - 16\epsilon_1 + 5\epsilon_2), \quad
      \tfrac1{24} (55\epsilon_0 - 59\epsilon_1 + 37\epsilon_2 - 9\epsilon_3)$$

    with $\epsilon_i$ of i strides ago, for two, three and four of them; one is taken as it is. (Each is the integral of
    the polynomial through the points: the Adams-Bashforth formulas.) Source: Liu et al.
    2022, section 3, for four.
    """
    weights = {1: (1,), 2: (3, -1), 3: (23, -16, 5), 4: (55, -59, 37, -9)}[len(eps)]
    newest_first = list(reversed(eps))
    total = weights[0] * newest_first[0]
    for weight, guess in zip(weights[1:], newest_first[1:]):
        total = total + weight * guess
    return total / sum(weights)


def plms_step(
    x_t: Float[Tensor, "b *shape"],
    eps: Float[Tensor, "b *shape"],
    alpha_bar_t: Float[Tensor, ""],
    alpha_bar_prev: Float[Tensor, ""],
) -> Float[Tensor, "b *shape"]:
    r"""One step along a given noise: DDIM's, with the picture that this noise leaves of $x_t$.

    Source: Liu et al. 2022, section 3, whose "transfer part" is DDIM's step (Song et al. 2021, eq. 12) in other
    letters.
    """
    x0, eps = x0_and_eps("eps", eps, x_t, alpha_bar_t)
    return ddim_step(x0, eps, alpha_bar_t, alpha_bar_prev)


def plms(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    path: Sequence[Stride],
    noise: Noise,
    project: Project = unchanged,
) -> Iterator[Step]:
    r"""Sample with PLMS, along DDIM's path. The first stride asks the network twice: here, and where it would land.

    The mean of both answers leads to where the path goes on (Heun's method); the second one is forgotten. What is
    remembered of a model that predicts v is its noise, as in Stable Diffusion's code; diffusers remembers v instead.
    """
    x, history = x_T, list[Latent]()
    for i, stride in enumerate(path):
        x0, eps = denoise(x, stride.t, stride.alpha_bar)
        history = [*history, eps][-4:]
        direction = extrapolated_eps(history)
        x_prev = plms_step(x, direction, stride.alpha_bar, stride.alpha_bar_prev)
        if i == 0 and len(path) > 1:
            _, eps_there = denoise(x_prev, path[1].t, path[1].alpha_bar)
            x_prev = plms_step(x, (eps + eps_there) / 2, stride.alpha_bar, stride.alpha_bar_prev)
        x_prev = project(x_prev, stride.alpha_bar_prev)
        yield Step(stride.t, stride.alpha_bar, x, x0, x_prev)
        x = x_prev
