r"""The reverse process: the loop that every one-step sampler shares.

The loop is a generator. It yields what happened at each step, so that a progress bar and a plain `for`
consume the same code, and neither is woven into it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Latent = Float[Tensor, "b *shape"]
Scalar = Float[Tensor, ""]

# (x_t, t) -> the guesses of x0 and eps. The pipeline builds it from U-Net, prompt and guidance.
Denoise = Callable[[Latent, int], tuple[Latent, Latent]]
# (x, alpha_bar at x's new noise level) -> x, called after each update. Inpainting puts the kept region back.
Project = Callable[[Latent, Scalar], Latent]
# () -> fresh standard normal noise of the latent's shape.
Noise = Callable[[], Latent]


@dataclass(frozen=True)
class Step:
    """What happened at one step of sampling. The last step's `x_prev` is the finished latent."""

    t: int
    x_t: Latent  # the latent before the step
    x0: Latent  # the guess, from here, of what the finished latent will be
    x_prev: Latent  # the latent after the step ("prev": a lower t, as the forward process counts)


def unchanged(x: Latent, alpha_bar: Scalar) -> Latent:
    """The projection that does nothing."""
    return x


def reverse_process(
    update: Callable[[Latent, Latent, Latent, Scalar, Scalar], Latent],
    denoise: Denoise,
    x: Latent,
    timesteps: Sequence[tuple[int, int]],
    alpha_bar: Float[Tensor, "T"],
    final: Scalar,
    project: Project = unchanged,
) -> Iterator[Step]:
    r"""Walk down `timesteps`, from noise to latent.

    `update` gets (x_t, x0, eps, alpha_bar_t, alpha_bar_prev) and returns x at the next lower noise level;
    `timesteps` as from `spaced_timesteps`; `final` is the $\bar\alpha$ of the end, after the last step.
    """
    for t, t_prev in timesteps:
        alpha_bar_t, alpha_bar_prev = alpha_bar[t], alpha_bar[t_prev] if t_prev >= 0 else final
        x0, eps = denoise(x, t)
        x_prev = project(update(x, x0, eps, alpha_bar_t, alpha_bar_prev), alpha_bar_prev)
        yield Step(t, x, x0, x_prev)
        x = x_prev
