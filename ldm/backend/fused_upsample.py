r"""Nearest-neighbour upsampling and the 3x3 convolution after it, fused: less than half the multiplications.

Along a row, repeating each pixel gives $u_{2i} = u_{2i+1} = x_i$, so a kernel $w_0, w_1, w_2$ meets some value twice:

- $y_{2i} = w_0 u_{2i-1} + w_1 u_{2i} + w_2 u_{2i+1} = w_0 x_{i-1} + (w_1 + w_2)\, x_i$
- $y_{2i+1} = (w_0 + w_1)\, x_i + w_2 x_{i+1}$

With the weights added up beforehand, two products do the work of three; in two dimensions, four that of nine. Read the
other way round, $x_i$ contributes to $y_{2i-1} \ldots y_{2i+2}$ with weights $w_2$, $w_1 + w_2$, $w_0 + w_1$ and $w_0$,
which makes it a transposed convolution of stride 2. Its weights are not learned, which would leave checkerboards (Odena
et al. 2016): they are sums of the 3x3 kernel's own, so the output is the same up to rounding.

The enlarged map, four times the input in memory, is never stored. docs/bench.md has the gain.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ldm.backend.cpu import bfloat16_instructions
from ldm.backend.gradients import needs_gradient
from ldm.nn.resnet import Upsample

# Input pixels from which on it is faster: summing the weights takes as long for few as for many
THRESHOLD = 1024

# What $x_i$ contributes to $y_{2i-1}$, $y_{2i}$, $y_{2i+1}$ and $y_{2i+2}$, as multiples of $w_0$, $w_1$ and $w_2$.
CONTRIBUTIONS = ((0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))


class FusedUpsample(Upsample):
    """`Upsample`, fused wherever that is faster."""

    def forward(
        self, x: Float[Tensor, "b c h w"], size: tuple[int, int] | None = None
    ) -> Float[Tensor, "b c h2 w2"]:
        doubled = (2 * x.shape[-2], 2 * x.shape[-1])
        if size in (None, doubled) and is_faster(x, self.conv.weight):
            return fused_upsample(x, self.conv.weight, self.conv.bias)
        return super().forward(x, size)


def is_faster(x: Float[Tensor, "b c h w"], weight: Float[Tensor, "d c 3 3"]) -> bool:
    """Whether the fused path is used: a large map, on a CPU, in a dtype that oneDNN supports, without gradients.

    Without instructions for bfloat16, torch would round each contribution to a pixel instead of their sum.
    """
    return (
        x.device.type == "cpu"
        and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and bool(bfloat16_instructions())))
        and torch.backends.mkldnn.is_available()
        and x.shape[-2] * x.shape[-1] >= THRESHOLD
        and not needs_gradient(x, weight)
    )


def fused_upsample(
    x: Float[Tensor, "b c h w"], weight: Float[Tensor, "d c 3 3"], bias: Float[Tensor, " d"] | None
) -> Float[Tensor, "b d h2 w2"]:
    """Every pixel repeated to twice the height and width, then convolved with zero padding, in one operation."""
    contributions = weight.new_tensor(CONTRIBUTIONS)
    both_axes = torch.einsum("k i, l j -> i j k l", contributions, contributions)
    kernel = torch.einsum("d c i j, i j k l -> c d k l", weight, both_axes)  # rounded once
    return F.conv_transpose2d(x, kernel, bias, stride=2, padding=1)
