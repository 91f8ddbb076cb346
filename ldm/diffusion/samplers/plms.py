r"""PLMS (pseudo linear multistep): DDIM that extrapolates from its last estimates, by Adams-Bashforth formulas.

DDIM goes straight on in the direction of the noise estimated now, and so leaves a path that curves. The estimates of
the last steps tell how the direction has been turning: a line, a parabola or a cubic through them predicts its mean
over the coming step. This needs no extra evaluations of the network, apart from one at the first step, where there are
no earlier estimates.

Source: Liu et al. 2022 (PNDM), section 3, where these steps follow a start of three costly Runge-Kutta steps; Stable
Diffusion's `plms.py` omits them (in diffusers: `PNDMScheduler` with `skip_prk_steps`), and so do we.
"""

from collections.abc import Sequence

from ldm.diffusion.level import Latent, Level
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.sample import Ahead, Denoise, NoiseFn, Past
from ldm.diffusion.samplers.euler import euler


def extrapolated_eps(eps: Sequence[Latent]) -> Latent:
    r"""The mean noise to expect over the coming step, from the estimates of the last steps (`eps`, oldest first):

    $$\bar\epsilon = \tfrac12 (3\epsilon_0 - \epsilon_1), \quad
      \tfrac1{12} (23\epsilon_0 - 16\epsilon_1 + 5\epsilon_2), \quad
      \tfrac1{24} (55\epsilon_0 - 59\epsilon_1 + 37\epsilon_2 - 9\epsilon_3)$$

    for two, three and four estimates, where $\epsilon_i$ is the one from i steps ago; a single one is returned as it
    is. (Each formula integrates the polynomial through the points: Adams-Bashforth.) Source: Liu et al. 2022, section
    3, for four.
    """
    weights = {1: (1,), 2: (3, -1), 3: (23, -16, 5), 4: (55, -59, 37, -9)}[len(eps)]
    newest_first = list(reversed(eps))
    total = weights[0] * newest_first[0]
    for weight, estimate in zip(weights[1:], newest_first[1:]):
        total = total + weight * estimate
    return total / sum(weights)


def plms_step(x_t: Latent, eps: Latent, level: Level, next_level: Level) -> Latent:
    r"""Euler's step with a given noise estimate: $\hat x_0$ is what remains of $x_t$ after removing it.

    Source: Liu et al. 2022, section 3, whose "transfer part" is DDIM's step (Song et al. 2021, eq. 12) in other
    symbols.
    """
    x0, _ = x0_and_eps("eps", eps, x_t, level)
    return next_level.mix(x0, eps)


def plms(past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn) -> Latent:
    r"""PLMS's update. The first step takes two evaluations: at its start, and where it would land.

    Their mean is the direction of that step (Heun's method), and the second one is not remembered. If the network
    predicts v, the noise computed from it is remembered, as in Stable Diffusion's code; diffusers remembers v instead.
    A step that starts from pure noise is Euler's, since an estimate of the noise does not determine $x_0$ there; the
    next step then counts as the first.
    """
    now, next_level = past[-1], ahead[0]
    if now.level.alpha == 0:
        return euler(past, ahead, denoise, noise_fn)
    x_prev = plms_step(now.x_t, extrapolated_eps([e.eps for e in past]), now.level, next_level)
    if len(past) == 1 and len(ahead) > 1:
        _, eps_next = denoise(x_prev, next_level)
        x_prev = plms_step(now.x_t, (now.eps + eps_next) / 2, now.level, next_level)
    return x_prev
