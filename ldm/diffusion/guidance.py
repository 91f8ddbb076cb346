r"""Classifier-free guidance: how a prompt is made to count."""

from jaxtyping import Float
from torch import Tensor


def classifier_free_guidance(
    uncond: Float[Tensor, "b *shape"], cond: Float[Tensor, "b *shape"], scale: float
) -> Float[Tensor, "b *shape"]:
    r"""Exaggerate the difference that the prompt makes.

    $$\tilde\epsilon = \epsilon_\varnothing + g\,(\epsilon_c - \epsilon_\varnothing)$$

    `scale` is g: 1 gives the plain conditional prediction, 0 ignores the prompt, 7.5 is usual. A negative prompt takes
    the place of the empty one, and the result moves away from it.

    It works for every prediction type, since at a given $x_t$ all of them are linear in one another.

    Source: Saharia et al. 2022, eq. 2, whose convention this function and Stable Diffusion follow. The paper that
    introduced guidance, Ho & Salimans 2022, eq. 6, counts from 0, so its $w = g - 1$:

    $$\tilde\epsilon = (1 + w)\,\epsilon_c - w\,\epsilon_\varnothing$$
    """
    return uncond + scale * (cond - uncond)


def rescale_guidance(
    guided: Float[Tensor, "b *shape"], cond: Float[Tensor, "b *shape"], phi: float
) -> Float[Tensor, "b *shape"]:
    r"""Undo the gain in contrast that guidance brings:

    $$\tilde v \leftarrow \phi\, \tilde v\, \frac{\mathrm{std}(v_c)}{\mathrm{std}(\tilde v)} + (1 - \phi)\, \tilde v$$

    Strong guidance inflates the prediction, and its images are overexposed. With $\phi = 0$ `guided` is unchanged; with
    $\phi = 1$ it gets `cond`'s standard deviation (of each image, over all its channels and positions), which makes
    images look flat. 0.7 is usual for models with zero terminal SNR. Source: Lin et al. 2024, eqs. 15 and 16.
    """
    dims = tuple(range(1, guided.ndim))
    ratio = cond.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return guided * (phi * ratio + (1 - phi))
