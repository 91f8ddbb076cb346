r"""DDIM (denoising diffusion implicit models): deterministic sampling, without fresh noise.

DDPM's training loss depends only on the distribution of each $x_t$ given $x_0$, not on how consecutive ones depend on
one another. Among all the processes that fit, DDIM picks one that goes from noise to image without adding fresh noise.
Both samplers may skip timesteps; but with few steps, DDPM has no time to remove the noise that it adds, while DDIM
gives good images in twenty (Song et al. 2021, table 1).

Source: Song, Meng & Ermon 2021.
"""

import math

from ldm.diffusion.level import Latent, Level
from ldm.diffusion.sample import Ahead, Denoise, NoiseFn, Past
from ldm.errors import LdmError


def ddim_sigma(level: Level, next_level: Level, eta: float) -> float:
    r"""The standard deviation of the noise that a step adds:

    $$\sigma_\eta = \eta\,\sigma' \sqrt{1 - \left(\frac{\alpha\,\sigma'}{\alpha'\,\sigma}\right)^2}
                = \eta \sqrt{\frac{1-\bar\alpha_{t'}}{1-\bar\alpha_t}} \sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_{t'}}}$$

    The second form holds at VP levels; it is $\sigma_t$ in Song et al. 2021, eq. 16. With eta = 0 no noise is added,
    with eta = 1 as much as in DDPM. Where rounding makes the number under the root negative, it counts as 0.
    """
    kept = level.alpha * next_level.sigma / (next_level.alpha * level.sigma)
    return eta * next_level.sigma * math.sqrt(max(0.0, 1 - kept**2))


def ddim_step(
    x0: Latent, eps: Latent, level: Level, next_level: Level, eta: float = 0.0, noise: Latent | None = None
) -> Latent:
    r"""One step, from `level` to the less noisy `next_level`:

    $$x' = \alpha'\,\hat x_0 + \sqrt{\sigma'^2 - \sigma_\eta^2}\;\hat\epsilon + \sigma_\eta\, z$$

    That is the estimated image, noised again with less of the estimated noise, and with fresh noise z of standard
    deviation $\sigma_\eta$ (see `ddim_sigma`). A prime marks the next level. Source: Song et al. 2021, eq. 12.
    Raises `LdmError` for an eta outside [0, 1], and for eta > 0 without a `noise` z to add.
    """
    if not 0 <= eta <= 1:
        raise LdmError(f"eta is {eta}; expected 0 (no noise) to 1 (as much as DDPM)")
    if eta > 0 and noise is None:
        raise LdmError(f"eta is {eta}, so this step adds noise, and was given none; pass `noise`, or eta=0")
    noise_std = ddim_sigma(level, next_level, eta)
    x_prev = next_level.alpha * x0 + math.sqrt(next_level.sigma**2 - noise_std**2) * eps
    return x_prev if noise is None else x_prev + noise_std * noise


def ddim(past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn, eta: float = 0.0) -> Latent:
    """DDIM's update; it draws noise only if eta > 0."""
    now = past[-1]
    return ddim_step(now.x0, now.eps, now.level, ahead[0], eta, noise_fn() if eta > 0 else None)
