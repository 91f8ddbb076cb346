r"""Classifier-free guidance: how strongly the prompt counts.

The network predicts twice, with the prompt and with an empty one, and the difference is exaggerated. (An earlier method
followed the gradient of an image classifier.)
"""

from jaxtyping import Float
from torch import Tensor


def classifier_free_guidance(
    uncond: Float[Tensor, "b *shape"], cond: Float[Tensor, "b *shape"], scale: float
) -> Float[Tensor, "b *shape"]:
    r"""Extrapolate from the prediction without the prompt (`uncond`) through the one with it (`cond`):

    $$\tilde\epsilon = \epsilon_\varnothing + g\,(\epsilon_c - \epsilon_\varnothing)$$

    $\epsilon_\varnothing$ is `uncond`, $\epsilon_c$ is `cond`, and `scale` is g: 1 gives the plain conditional
    prediction, 0 ignores the prompt, 7.5 is usual. A negative prompt, if given, replaces the empty one; the image then
    moves away from what it describes.

    The result is the same for every prediction type: at a given $x_t$ each is an affine function of any other, and the
    weights $1 - g$ and $g$ sum to one.

    Source: Saharia et al. 2022, eq. 2, whose convention this function and Stable Diffusion follow. The paper that
    introduced guidance, Ho & Salimans 2022, eq. 6, has $w = g - 1$, so 0 means no guidance:

    $$\tilde\epsilon = (1 + w)\,\epsilon_c - w\,\epsilon_\varnothing$$
    """
    return uncond + scale * (cond - uncond)


def rescale_guidance(
    guided: Float[Tensor, "b *shape"], cond: Float[Tensor, "b *shape"], phi: float
) -> Float[Tensor, "b *shape"]:
    r"""Rescale the guided prediction towards the standard deviation of the conditional one:

    $$\tilde v \leftarrow \phi\, \tilde v\, \frac{\mathrm{std}(v_c)}{\mathrm{std}(\tilde v)} + (1 - \phi)\, \tilde v$$

    Here $v_c$ is `cond` and $\tilde v$ is `guided`, of any prediction type. Strong guidance inflates the prediction,
    and the images come out overexposed. With $\phi = 0$ `guided` is unchanged; with $\phi = 1$ it gets `cond`'s
    standard deviation (of each image, over all its channels and positions), which makes images look flat. 0.7 is usual
    for models with zero terminal SNR. Source: Lin et al. 2024, eqs. 15 and 16.
    """
    dims = tuple(range(1, guided.ndim))
    ratio = cond.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return guided * (phi * ratio + (1 - phi))
