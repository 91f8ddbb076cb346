r"""The forward process of DDPM (denoising diffusion probabilistic models): noise is added to a latent step by step.

The clean latent is $x_0$. Timestep t multiplies the latent by $\sqrt{1-\beta_t}$ and adds Gaussian noise of a small
variance $\beta_t$; the list of these variances, fixed beforehand, is the *noise schedule*. A latent of variance 1 keeps
variance 1; less and less of it is signal. A sum of Gaussians is Gaussian, so any timestep can be reached from $x_0$ in
one go (Ho et al. 2020, eq. 4):

$$q(x_t \mid x_0) = \mathcal N\!\left(\sqrt{\bar\alpha_t}\, x_0,\; (1 - \bar\alpha_t)\, I\right),
  \qquad \bar\alpha_t = \prod_{s \le t} (1 - \beta_s)$$

Here t counts from 0, as in most code, so the latent at t = 0 is already slightly noisy; $x_0$ always means the clean
one. (The DDIM paper writes $\alpha$ for this $\bar\alpha$; `level.py` writes $\alpha$ for its square root.) Stable
Diffusion's $\bar\alpha_{999}$ is 0.0047, not 0: in training, a trace of the image survives even at the last timestep,
but sampling starts from pure noise. Lin et al. 2024 point out this flaw.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.config import NoiseConfig
from ldm.errors import LdmError


def zero_terminal_snr(betas: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
    r"""Rescale a schedule to a signal-to-noise ratio (SNR) of zero at its last timestep: $\bar\alpha_{T-1} = 0$.

    The first timestep stays unchanged:

    $$\sqrt{\bar\alpha_t} \leftarrow \left(\sqrt{\bar\alpha_t} - \sqrt{\bar\alpha_{T-1}}\right)
      \frac{\sqrt{\bar\alpha_0}}{\sqrt{\bar\alpha_0} - \sqrt{\bar\alpha_{T-1}}}$$

    Then training also includes pure noise, from which sampling starts. With Stable Diffusion's own schedule, the trace
    of the image at the last timestep reveals its mean brightness, and the network learns to rely on it; pure noise has
    no such trace, so every generated image comes out at medium brightness. At the new last timestep an estimate of the
    noise says nothing about the image, so the network must predict v (or x0; see `predict.py`). Source: Lin et al.
    2024, algorithm 1.
    """
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    alpha_bar = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


def make_betas(config: NoiseConfig) -> Float[Tensor, "T"]:
    r"""The variances $\beta_0 \ldots \beta_{T-1}$, in float32, as diffusers computes them.

    - `linear`: evenly spaced (Ho et al. 2020, section 4);
    - `scaled_linear`: evenly spaced square roots, with less noise at the start: Stable Diffusion's choice;
    - `cosine`: $\bar\alpha_t = f(t+1) / f(0)$ with $f(s) = \cos^2\!\left(\frac{s/T + 0.008}{1.008} \cdot
      \frac\pi2\right)$, each beta capped at 0.999 (Nichol & Dhariwal 2021, eq. 17, whose t is ours plus one).

    With `zero_snr` any of them is then rescaled to end in pure noise. Raises `LdmError` for any other schedule, and for
    `zero_snr` with a model that predicts eps.
    """
    start, end, num_timesteps = config.beta_start, config.beta_end, config.steps
    match config.schedule:
        case "linear":
            betas = torch.linspace(start, end, num_timesteps, dtype=torch.float32, device="cpu")
        case "scaled_linear":
            roots = torch.linspace(start**0.5, end**0.5, num_timesteps, dtype=torch.float32, device="cpu")
            betas = roots**2
        case "cosine":

            def f(t: int) -> float:
                return math.cos((t / num_timesteps + 0.008) / 1.008 * math.pi / 2) ** 2

            each = [min(1 - f(t + 1) / f(t), 0.999) for t in range(num_timesteps)]
            betas = torch.tensor(each, dtype=torch.float32, device="cpu")
        case _:
            raise LdmError(
                f"noise schedule {config.schedule!r}; expected 'scaled_linear', 'linear' or 'cosine'"
            )
    if config.zero_snr and config.prediction == "eps":
        raise LdmError(
            "zero_snr with prediction 'eps', which says nothing about the image at the last timestep; "
            "expected 'v' or 'x0'"
        )
    return zero_terminal_snr(betas) if config.zero_snr else betas


def make_alpha_bar(config: NoiseConfig) -> Float[Tensor, "T"]:
    r"""$\bar\alpha_0 \ldots \bar\alpha_{T-1}$: the share of the variance that is still signal at each timestep."""
    return torch.cumprod(1 - make_betas(config), dim=0)


def per_image(alpha_bar_t: Float[Tensor, "*b"], x: Float[Tensor, "b *shape"]) -> Float[Tensor, "..."]:
    """Reshape alpha_bar_t, one for the batch or one per image, to broadcast against x: [b, 1, 1, 1].

    Its precision is kept: in half precision an alpha_bar near 1 would round to 1, and the noise would vanish.
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

    `alpha_bar_t` in [0, 1], one for the batch or one per image; `Level.mix` does the same for a single level. Source:
    Ho et al. 2020, eq. 4.
    """
    a = per_image(alpha_bar_t, x0)
    return (a.sqrt() * x0 + (1 - a).sqrt() * eps).to(x0.dtype)
