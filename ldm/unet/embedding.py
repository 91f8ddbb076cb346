r"""Telling the U-Net how noisy its input is.

One network serves all noise levels, so the timestep is an input. A single number would be a poor one; its
sines and cosines at many frequencies are as easy to read as a clock with many hands.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn


def timestep_embedding(t: Shaped[Tensor, "b"], width: int) -> Float[Tensor, "b {width}"]:
    r"""Sinusoids of the timestep, cosines first:

    $$\mathrm{emb}(t) = [\cos(t f_0), \ldots, \cos(t f_{n-1}), \sin(t f_0), \ldots, \sin(t f_{n-1})],
      \qquad f_i = 10000^{-i/n}, \quad n = \mathrm{width}/2$$

    Source: Vaswani et al. 2017, section 3.5, where sines and cosines alternate; this order is that of Stable
    Diffusion. Computed in float32 whatever the model's dtype: near 999, bfloat16 counts in steps of 4 and float16 in
    steps of 0.5, and the fast sines would be noise. `t` in [0, T), whole or fractional; `width` even.
    """
    half = width // 2
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    angle = t.float()[:, None] * exponent.exp()[None, :]
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """The sinusoids, made useful by a small MLP; every residual block receives the result."""

    def __init__(self, sinusoid_width: int, width: int):
        super().__init__()
        self.sinusoid_width = sinusoid_width
        self.linear_1 = nn.Linear(sinusoid_width, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t: Shaped[Tensor, "b"]) -> Float[Tensor, "b d"]:
        sinusoids = timestep_embedding(t, self.sinusoid_width).to(self.linear_1.weight.dtype)
        return self.linear_2(nn.functional.silu(self.linear_1(sinusoids)))
