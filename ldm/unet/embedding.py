r"""How the U-Net receives the noise level of its input.

One network handles all noise levels, so the timestep is one of its inputs. A single number would be hard for a network
to use; sines and cosines of it at many frequencies are easy to read, like a clock with many hands.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ldm.errors import LdmError
from ldm.unet.guidance_embedding import guidance_embedding


def timestep_embedding(t: Shaped[Tensor, "b"], width: int) -> Float[Tensor, "b {width}"]:
    r"""Sinusoids of the timestep, cosines first:

    $$\mathrm{emb}(t) = [\cos(t f_0), \ldots, \cos(t f_{n-1}), \sin(t f_0), \ldots, \sin(t f_{n-1})],
      \qquad f_i = 10000^{-i/n}, \quad n = \mathrm{width}/2$$

    Source: Vaswani et al. 2017, section 3.5, where sines and cosines alternate; this order is Stable Diffusion's.
    Computed in float32 whatever the model's dtype: near 999 the spacing of bfloat16 numbers is 4 and that of float16
    numbers 0.5, which would make the high frequencies useless. `t` in [0, T), whole or fractional; `width` even.
    """
    half = width // 2
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    angle = t.float()[:, None] * exponent.exp()[None, :]
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """The sinusoids, passed through a small MLP; every residual block receives the result.

    A distilled U-Net is told the guidance scale as well: a linear map of its sinusoids (`guidance_embedding`), which
    are `guidance_width` wide, is added to those of the timestep.
    """

    def __init__(self, sinusoid_width: int, width: int, guidance_width: int | None = None):
        super().__init__()
        self.sinusoid_width = sinusoid_width
        self.guidance = (
            None if guidance_width is None else nn.Linear(guidance_width, sinusoid_width, bias=False)
        )
        self.linear_1 = nn.Linear(sinusoid_width, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t: Shaped[Tensor, "b"], w: Float[Tensor, "b"] | None = None) -> Float[Tensor, "b d"]:
        """Raises `LdmError` if `w`, the guidance scale minus 1, is missing, or given to a network that ignores it."""
        dtype = self.linear_1.weight.dtype
        sinusoids = timestep_embedding(t, self.sinusoid_width).to(dtype)
        if (self.guidance is None) != (w is None):
            reads = "does not read" if self.guidance is None else "reads"
            raise LdmError(
                f"this U-Net {reads} a guidance scale, and got {'none' if w is None else 'one'} as `w`"
            )
        if self.guidance is not None and w is not None:
            embedded = guidance_embedding(w, self.guidance.in_features).to(dtype)
            sinusoids = sinusoids + self.guidance(embedded)
        return self.linear_2(nn.functional.silu(self.linear_1(sinusoids)))
