r"""A noise level: how much signal and how much noise a latent holds.

A noisy latent is a weighted sum of a clean latent $x_0$ and standard normal noise $\epsilon$:

$$x = \alpha\,x_0 + \sigma\,\epsilon$$

(This $\alpha$ is not DDPM's, where $\alpha_t = 1 - \beta_t$.) Families of diffusion models differ in how
the two weights depend on one another:

- variance preserving (VP; DDPM, Stable Diffusion): $\alpha = \sqrt{\bar\alpha}$ and $\sigma = \sqrt{1 - \bar\alpha}$,
  so a latent of variance 1 keeps variance 1; with zero terminal SNR the last level is pure noise, $\alpha = 0$;
- variance exploding (VE; Song et al. 2021b; Karras et al. 2022 sample in this form): $\alpha = 1$;
- rectified flow (Liu et al. 2023): $\alpha = 1 - \sigma$.

A sampler gets a list of levels and never asks which family they belong to.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor

Latent = Float[Tensor, "b *shape"]
Time = int | float  # a timestep, or a point between two timesteps


@dataclass(frozen=True)
class Level:
    """A noise level, and the timestep that the network is given with it."""

    t: Time
    alpha: float  # the weight of the signal
    sigma: float  # the weight of the noise
    # All the levels of its model. A few samplers use levels between those that sampling visits.
    schedule: "Schedule | None" = field(default=None, compare=False, repr=False)

    def mix(self, x0: Latent, eps: Latent) -> Latent:
        r"""The latent at this level: $x = \alpha\,x_0 + \sigma\,\epsilon$."""
        return self.alpha * x0 + self.sigma * eps

    @property
    def ve_sigma(self) -> float:
        r"""The noise level of this latent in VE form, $x / \alpha = x_0 + (\sigma / \alpha)\,\epsilon$.

        This ratio is the sigma of Karras et al. 2022, k-diffusion and diffusers. In Stable Diffusion it rises from
        0.029 at t = 0 to 14.6 at t = 999; it is 0 for a clean latent and infinite for pure noise.
        """
        return self.sigma / self.alpha if self.alpha else math.inf

    @property
    def half_log_snr(self) -> float:
        r"""Half the log of the signal-to-noise ratio; it rises as noise is removed, from $-\infty$ to $\infty$:

        $$\lambda = \log\frac{\alpha}{\sigma} = \tfrac12 \log\frac{\alpha^2}{\sigma^2}$$
        """
        if not self.alpha or not self.sigma:
            return -math.inf if self.sigma else math.inf
        return math.log(self.alpha / self.sigma)


@dataclass(frozen=True, eq=False)
class Schedule:
    """The noise levels of a model, of which sampling visits a few: the level of any timestep, and of any ratio."""

    at_time: Callable[[Time], Level]
    at_ratio: Callable[
        [float], Level
    ]  # of a noise level in VE form, `Level.ve_sigma`; the timestep may be fractional

    def attached_to(self, levels: Sequence[Level]) -> list[Level]:
        """The levels, each with this schedule as its `schedule`."""
        return [replace(level, schedule=self) for level in levels]


# A clean latent. The network is never evaluated here, so t has no meaning: timestep 0 is still slightly noisy.
CLEAN = Level(0, 1.0, 0.0)


def vp_level(t: int, alpha_bar: Float[Tensor, "T"]) -> Level:
    r"""The level of timestep t of a VP schedule: $\alpha = \sqrt{\bar\alpha_t}$, $\sigma = \sqrt{1 - \bar\alpha_t}$."""
    return Level(t, alpha_bar[t].sqrt().item(), (1 - alpha_bar[t]).sqrt().item())


def vp_level_of(t: Time, ve_sigma: float) -> Level:
    r"""The VP level with a given ratio of noise to signal, $s = \sigma / \alpha$:

    $$\alpha = \frac{1}{\sqrt{1 + s^2}}, \qquad \sigma = \frac{s}{\sqrt{1 + s^2}}$$
    """
    alpha = 1 / math.hypot(1, ve_sigma)
    return Level(t, alpha, ve_sigma * alpha)


def flow_levels(count: int) -> list[Level]:
    r"""The levels of a rectified flow, for `count` steps: $\sigma = t$ falls evenly from 1 to 0, $\alpha = 1 - \sigma$.

    The latent moves on a straight line from noise to data, $x_t = (1 - t)\,x_0 + t\,\epsilon$, with t between 0 and 1.
    Only the levels are here: `predict.py` has no velocity prediction for flows. Source: Liu et al. 2023, eq. 1, whose t
    runs the other way.
    """
    flow = Schedule(lambda t: Level(t, 1 - t, t), lambda ratio: flow.at_time(ratio / (1 + ratio)))
    return flow.attached_to([flow.at_time(1 - i / count) for i in range(count + 1)])


def circle_levels(count: int) -> list[Level]:
    r"""VP levels on a quarter circle, for `count` steps: the angle falls evenly from 90 degrees to 0.

    $$\alpha = \cos\frac{\pi t}{2}, \qquad \sigma = \sin\frac{\pi t}{2}$$

    They begin at pure noise and end at a clean latent, with t between 0 and 1. Source: Salimans & Ho 2022, section 2;
    Nichol & Dhariwal 2021, eq. 17, is the same for whole timesteps, with a small offset.
    """
    circle = Schedule(circle_level, lambda ratio: circle_level(2 / math.pi * math.atan(ratio)))
    return circle.attached_to([circle_level(1 - i / count) for i in range(count + 1)])


def circle_level(t: Time) -> Level:
    """The level at time t of `circle_levels`; exactly clean at 0, and exactly noise at 1."""
    # The cosine of a rounded quarter turn is 6e-17, not 0.
    return Level(t, math.cos(math.pi / 2 * t) if t < 1 else 0.0, math.sin(math.pi / 2 * t))
