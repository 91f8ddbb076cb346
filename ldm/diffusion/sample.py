r"""The reverse process: the loop that every sampler shares.

Sampling visits a list of noise levels, from the noisiest to the last one, which is (nearly) clean. At each level but
the last, the loop evaluates the network; then the sampler's *update* takes the latent to the next level:

    for step in sample(update, denoise, x, levels, noise_fn):
        x = step.x_prev

The next latent is called `x_prev` because papers count t upwards as noise is added: t - 1, the *previous* timestep, is
the next one that sampling visits. (`x0_prev` and `prev_level` belong to the previous *evaluation*, at a noisier level.)

`sample` is a generator that yields what happened at each step, so a progress bar and a plain `for` can consume the same
loop. The updates are in `ldm/diffusion/samplers/`, one per file; the levels come from `ldm/diffusion/spacing.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from ldm.diffusion.level import Latent, Level

# (x_t, its noise level) -> the estimates of x0 and eps. The pipeline builds it from the U-Net, prompt and guidance.
Denoise = Callable[[Latent, Level], tuple[Latent, Latent]]
# () -> fresh standard normal noise of the latent's shape. The SDE samplers call it with two levels: the noise between
# them on the image's Brownian path (`brownian.py`).
NoiseFn = Callable[..., Latent]
# (x, its noise level) -> x, called after each update; its return value replaces x. Inpainting keeps a region with it.
OnStep = Callable[[Latent, Level], Latent]
# An `OnStep` given by the user; it may return None to leave x unchanged.
Callback = Callable[[Latent, Level], Latent | None]

MEMORY = 4  # evaluations that a multistep sampler may use, the current one included


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation of the network: at the latent x_t, with the estimates x0 and eps."""

    level: Level
    x_t: Latent
    x0: Latent
    eps: Latent


Past = Sequence[Evaluation]  # the last evaluations; past[-1] is the one at the current latent and level
Ahead = Sequence[Level]  # the levels still to come; ahead[0] is the next one
# What a sampler is: (past, ahead, denoise, noise_fn) -> the latent at the next level.
Update = Callable[[Past, Ahead, Denoise, NoiseFn], Latent]


@dataclass(frozen=True, eq=False)
class Step:
    """What happened at one step of sampling. The last step's `x_prev` is the finished latent."""

    level: Level  # the noise level of x_t
    x_t: Latent  # the latent before the step
    x0: Latent  # the estimate of the clean latent (pred_original_sample in diffusers)
    x_prev: Latent  # the latent after the step, at the next, lower noise level


def identity(x: Latent, level: Level) -> Latent:
    """The `OnStep` that changes nothing."""
    return x


def callback_then(callback: Callback, on_step: OnStep) -> OnStep:
    """First the caller's `callback`, then `on_step`."""

    def both(x: Latent, level: Level) -> Latent:
        replaced = callback(x, level)
        return on_step(x if replaced is None else replaced, level)

    return both


def in_groups(groups: Sequence[tuple[Sequence[int], Denoise]]) -> Denoise:
    """A `Denoise` that splits a batch into groups, each with its indices and own `Denoise`, and joins the results."""
    if len(groups) == 1:
        return groups[0][1]
    order = torch.tensor([i for indices, _ in groups for i in indices], device="cpu").argsort()

    def denoise(x_t: Latent, level: Level) -> tuple[Latent, Latent]:
        estimates = [one(x_t[indices], level) for indices, one in groups]
        x0, eps = (torch.cat(parts)[order.to(x_t.device)] for parts in zip(*estimates, strict=True))
        return x0, eps

    return denoise


def sample(
    update: Update,
    denoise: Denoise,
    x: Latent,
    levels: Sequence[Level],
    noise_fn: NoiseFn,
    on_step: OnStep = identity,
) -> Iterator[Step]:
    """Take the latent x from the first level to the last, one step at a time.

    The network is never evaluated at the last level. An evaluation at pure noise (alpha = 0) is used for its own step
    only: the formulas of multistep samplers divide by alpha.
    """
    past: list[Evaluation] = []
    for i, (level, next_level) in enumerate(pairwise(levels), start=1):
        x0, eps = denoise(x, level)
        past = [*(e for e in past if e.level.alpha), Evaluation(level, x, x0, eps)][-MEMORY:]
        x_prev = on_step(update(past, levels[i:], denoise, noise_fn), next_level)
        yield Step(level, x, x0, x_prev)
        x = x_prev
