r"""Euler: the simplest way to solve a differential equation, and DDIM under another name.

Write a latent in VE form, $y = x / \alpha = x_0 + s\,\epsilon$ with $s = \sigma / \alpha$. As s falls, y follows an
ordinary differential equation, the *probability flow ODE*, along the estimated noise:

$$\frac{dy}{ds} = \frac{y - \hat x_0(y, s)}{s} = \hat\epsilon$$

Euler's method goes straight on in that direction for the length of the step,

$$y' = y + (s' - s)\,\hat\epsilon = \hat x_0 + s'\,\hat\epsilon$$

Back in x (times $\alpha'$) this is DDIM's step without fresh noise, the one line of code below. It needs no division by
$\alpha$, so it may start from pure noise, and it is the same for the straight paths of a rectified flow. In practice
Euler and DDIM differ only in their levels (those of Euler end at a clean latent) and in the scale of the initial noise
(see `table.py`).

Sources: Song et al. 2021 (DDIM), eqs. 13 and 14; Karras et al. 2022, eqs. 1 and 3, and algorithm 1 without its
second-order lines 6 to 8 (k-diffusion's `sample_euler`).
"""

from ldm.diffusion.level import Latent
from ldm.diffusion.sample import Ahead, Denoise, NoiseFn, Past


def euler(past: Past, ahead: Ahead, denoise: Denoise, noise_fn: NoiseFn) -> Latent:
    r"""Euler's update: $x' = \alpha'\,\hat x_0 + \sigma'\,\hat\epsilon$."""
    return ahead[0].mix(past[-1].x0, past[-1].eps)
