r"""The reverse process: what every sampler walks along, and the loop that the one-step samplers share.

A sampler is given a path, a list of strides from one noise level to the next lower one, and walks down it. It is a
generator: it yields what happened at each stride, so that a progress bar and a plain `for` consume the same code, and
neither is woven into it. `ldm/diffusion/samplers.py` lists the samplers and says which path each one walks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Latent = Float[Tensor, "b *shape"]
Scalar = Float[Tensor, ""]
Time = int | float  # what the network is told: a timestep, or with some samplers a place between two

# (x_t, t, alpha_bar at x_t's noise level) -> the guesses of x0 and eps. The pipeline builds it from U-Net, prompt and
# guidance. t alone would not do: a sampler may stand at a noise level that no timestep has.
Denoise = Callable[[Latent, Time, Scalar], tuple[Latent, Latent]]
# (x, alpha_bar at x's new noise level) -> x, called after each update. Inpainting puts the kept region back.
Project = Callable[[Latent, Scalar], Latent]
# () -> fresh standard normal noise of the latent's shape.
Noise = Callable[[], Latent]


@dataclass(frozen=True)
class Stride:
    """One stride of a path: "the latent is at level alpha_bar; ask the network about t; go to alpha_bar_prev"."""

    t: Time
    alpha_bar: Scalar  # before
    alpha_bar_prev: Scalar  # after ("prev": a lower t, as the forward process counts)


@dataclass(frozen=True)
class Step:
    """What happened at one stride of sampling. The last step's `x_prev` is the finished latent."""

    t: Time
    alpha_bar: Scalar  # the noise level of x_t
    x_t: Latent  # the latent before the step
    x0: Latent  # the guess, from here, of what the finished latent will be
    x_prev: Latent  # the latent after the step


def strides(
    timesteps: Sequence[tuple[int, int]], alpha_bar: Float[Tensor, "T"], final: Scalar
) -> list[Stride]:
    r"""The path along `timesteps`, pairs as from `spaced_timesteps`; `final` is the $\bar\alpha$ of the end.

    Raises IndexError for a timestep outside the schedule.
    """
    return [Stride(t, alpha_bar[t], alpha_bar[t_prev] if t_prev >= 0 else final) for t, t_prev in timesteps]


def unchanged(x: Latent, alpha_bar: Scalar) -> Latent:
    """The projection that does nothing."""
    return x


def in_groups(groups: Sequence[tuple[Sequence[int], Denoise]]) -> Denoise:
    """A `Denoise` for a batch whose latents are denoised group by group: (places in the batch, by what) of each."""
    if len(groups) == 1:
        return groups[0][1]
    order = torch.tensor([place for places, _ in groups for place in places], device="cpu").argsort()

    def denoise(x_t: Latent, t: Time, alpha_bar_t: Scalar) -> tuple[Latent, Latent]:
        guesses = [one(x_t[places], t, alpha_bar_t) for places, one in groups]
        x0, eps = (torch.cat(parts)[order.to(x_t.device)] for parts in zip(*guesses, strict=True))
        return x0, eps

    return denoise


def reverse_process(
    update: Callable[[Latent, Latent, Latent, Scalar, Scalar], Latent],
    denoise: Denoise,
    x: Latent,
    path: Sequence[Stride],
    project: Project = unchanged,
) -> Iterator[Step]:
    r"""Walk down `path`, from noise to latent, with a sampler that looks once a stride and remembers nothing.

    `update` gets (x_t, x0, eps, alpha_bar_t, alpha_bar_prev) and returns x at the next lower noise level.
    """
    for stride in path:
        x0, eps = denoise(x, stride.t, stride.alpha_bar)
        x_prev = update(x, x0, eps, stride.alpha_bar, stride.alpha_bar_prev)
        x_prev = project(x_prev, stride.alpha_bar_prev)
        yield Step(stride.t, stride.alpha_bar, x, x0, x_prev)
        x = x_prev
