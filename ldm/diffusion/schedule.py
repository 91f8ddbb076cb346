r"""The forward process of DDPM: how noise is added to a latent, step by step.

Step t multiplies by $\sqrt{1-\beta_t}$ and adds Gaussian noise of variance $\beta_t$. A latent of variance 1 keeps
variance 1; less and less of it is signal. Gaussians compose, so any step can be reached from the start in one go (Ho et
al. 2020, eq. 4):

$$q(x_t \mid x_0) = \mathcal N\!\left(\sqrt{\bar\alpha_t}\, x_0,\; (1 - \bar\alpha_t)\, I\right),
  \qquad \bar\alpha_t = \prod_{s \le t} (1 - \beta_s)$$

Here t counts from 0, as in every implementation: $\bar\alpha_0$ is already slightly noisy. (DDIM's paper writes
$\alpha$ for what is $\bar\alpha$ here and in DDPM's.) Stable Diffusion's $\bar\alpha_{999}$ is 0.0047, not 0: a trace
of the image survives to the last step, while sampling starts without one (a flaw, say Lin et al. 2024).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.config import NoiseConfig
from ldm.errors import LdmError


def zero_terminal_snr(betas: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
    r"""Rescale a schedule so that its last step is pure noise, $\bar\alpha_{T-1} = 0$, and its first stays unchanged.

    $$\sqrt{\bar\alpha_t} \leftarrow \left(\sqrt{\bar\alpha_t} - \sqrt{\bar\alpha_{T-1}}\right)
      \frac{\sqrt{\bar\alpha_0}}{\sqrt{\bar\alpha_0} - \sqrt{\bar\alpha_{T-1}}}$$

    The network then learns what it meets when sampling starts. The trace of an image that Stable Diffusion's last step
    keeps gives away how bright the image is; where sampling provides none, all images are of medium brightness. At the
    new last step the noise says nothing about the image, so the network must predict v (or x0). Source: Lin et al.
    2024, algorithm 1.
    """
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    alpha_bar = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


def make_betas(config: NoiseConfig) -> Float[Tensor, "T"]:
    r"""The variances $\beta_0 \ldots \beta_{T-1}$, in float32, as the reference computes them.

    - `linear`: evenly spaced (Ho et al. 2020, section 4);
    - `scaled_linear`: evenly spaced square roots; gentler at the start, Stable Diffusion's choice;
    - `cosine`: $\bar\alpha_t = f(t+1) / f(0)$ with $f(s) = \cos^2\!\left(\frac{s/T + 0.008}{1.008} \cdot
      \frac\pi2\right)$, betas at most 0.999 (Nichol & Dhariwal 2021, eq. 17, whose t is ours plus one).

    With `zero_snr` any of them is then rescaled to end in pure noise. Raises `LdmError` for another schedule,
    or for that of a model that predicts eps.
    """
    start, end, steps = config.beta_start, config.beta_end, config.steps
    match config.schedule:
        case "linear":
            betas = torch.linspace(start, end, steps, dtype=torch.float32, device="cpu")
        case "scaled_linear":
            betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float32, device="cpu") ** 2
        case "cosine":

            def f(t: int) -> float:
                return math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2

            each = [min(1 - f(t + 1) / f(t), 0.999) for t in range(steps)]
            betas = torch.tensor(each, dtype=torch.float32, device="cpu")
        case _:
            raise LdmError(
                f"noise schedule {config.schedule!r}; expected 'scaled_linear', 'linear' or 'cosine'"
            )
    if config.zero_snr and config.prediction == "eps":
        raise LdmError(
            "zero_snr with prediction 'eps', which says nothing of a picture at the last step; expected 'v'"
        )
    return zero_terminal_snr(betas) if config.zero_snr else betas


def make_alpha_bar(config: NoiseConfig) -> Float[Tensor, "T"]:
    r"""$\bar\alpha_0 \ldots \bar\alpha_{T-1}$: the share of signal variance left at each step; falls from near 1."""
    return torch.cumprod(1 - make_betas(config), dim=0)


def per_image(alpha_bar_t: Float[Tensor, "*b"], x: Float[Tensor, "b *shape"]) -> Float[Tensor, "..."]:
    """alpha_bar_t, one for the batch or one per image, in a shape that broadcasts against x: [b, 1, 1, 1].

    It keeps at least its own precision: rounded to half precision, an alpha_bar near 1 would become 1, its noise 0.
    """
    dtype = torch.promote_types(alpha_bar_t.dtype, x.dtype)
    return alpha_bar_t.to(dtype).reshape(-1, *[1] * (x.ndim - 1))


def add_noise(
    x0: Float[Tensor, "b *shape"],
    eps: Float[Tensor, "b *shape"],
    alpha_bar_t: Float[Tensor, "b"] | Float[Tensor, ""],
) -> Float[Tensor, "b *shape"]:
    r"""A sample of $q(x_t \mid x_0)$, with standard normal noise $\epsilon$:

    $$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$$

    `alpha_bar_t` in [0, 1], one for the batch or one per image. Source: Ho et al. 2020, eq. 4.
    """
    a = per_image(alpha_bar_t, x0)
    return (a.sqrt() * x0 + (1 - a).sqrt() * eps).to(x0.dtype)
