r"""How a distilled U-Net is told the guidance scale.

Classifier-free guidance evaluates the network twice at every step (`ldm/diffusion/guidance.py`). A latent consistency
model was distilled from *guided* predictions, with a random scale each time, and was told which: the scale becomes
sinusoids, and a linear map of them is added to those of the timestep. So one evaluation replaces two, and the scale is
still chosen for each image. A negative prompt has no effect.

Sources: Meng et al. 2023, section 3.1; Luo et al. 2023 (LCM), section 4.2.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def guidance_embedding(w: Float[Tensor, "b"], width: int) -> Float[Tensor, "b {width}"]:
    r"""Sinusoids of $w = g - 1$, where g is the guidance scale; sines first:

    $$\mathrm{emb}(w)_i = \sin(1000\,w f_i), \quad \mathrm{emb}(w)_{n+i} = \cos(1000\,w f_i), \quad
      f_i = 10000^{-i/(n-1)}$$

    for i from 0 to n - 1, where n is half the `width`, which is even and at least 4. These are not the sinusoids of a
    timestep (`timestep_embedding`), which begin with the cosines and have n in place of n - 1. Computed in float32
    whatever the model's dtype, as in training. Source: the code of LCM, which has it from that of Kingma et al. 2021.
    """
    half = width // 2
    exponent = -math.log(10000) / (half - 1) * torch.arange(half, dtype=torch.float32, device=w.device)
    angle = 1000 * w.float()[:, None] * exponent.exp()[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
