r"""Classifier-free guidance: how strongly the prompt counts.

The network predicts twice, with the prompt and with an empty one, and the difference is exaggerated. (An earlier method
followed the gradient of an image classifier.)
"""

from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.level import Level
from ldm.errors import LdmError


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


def guidance_at(level: Level, scale: float, interval: tuple[float, float] | None) -> float:
    r"""Guidance in a limited interval of noise levels:

    $$g(\sigma) = \begin{cases} g & \text{if } \sigma_\mathrm{low} < \sigma \le \sigma_\mathrm{high} \\
                               1 & \text{otherwise} \end{cases}$$

    `interval` is $(\sigma_\mathrm{low}, \sigma_\mathrm{high})$, in the $\sigma$ of Karras et al. 2022
    (`Level.ve_sigma`); None means everywhere. At high noise levels guidance pulls all images of a prompt towards the
    same few; at low ones it changes nothing that can be seen. In between it makes images better, and where it is 1 the
    network is evaluated once instead of twice. Source: Kynkäänniemi et al. 2024, section 3, who use (0.28, 5.42) for
    Stable Diffusion XL. Raises `LdmError` unless 0 <= low < high.
    """
    if interval is None:
        return scale
    low, high = interval
    if not 0 <= low < high:
        raise LdmError(f"guidance from sigma {low} to {high}; expected two numbers with 0 <= low < high")
    return scale if low < level.ve_sigma <= high else 1.0
