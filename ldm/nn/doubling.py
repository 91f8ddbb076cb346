r"""Repeat each pixel, then convolve: both at once, with less than half of the products.

Along a row, repeating makes $u_{2i} = u_{2i+1} = x_i$, and a kernel $w_0, w_1, w_2$ over that sees one number twice:

- $y_{2i} = w_0 u_{2i-1} + w_1 u_{2i} + w_2 u_{2i+1} = w_0 x_{i-1} + (w_1 + w_2)\, x_i$
- $y_{2i+1} = (w_0 + w_1)\, x_i + w_2 x_{i+1}$

Once the weights are added up, two products do for three; in a picture four for nine. In other words, $x_i$ gives
$y_{2i-1}$ to $y_{2i+2}$ the shares $w_2$, $w_1 + w_2$, $w_0 + w_1$ and $w_0$. A convolution that deals out shares is
called transposed. This one does not learn its weights, which would leave a checkerboard (Odena et al. 2016): they are
the 3x3 kernel's own, and so the picture is the same, but for rounding.

The repeated map, four times its size in memory, is never made. docs/bench.md has what that gains.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

MANY = 1024  # pixels of a map from which on it pays: adding up the weights takes as long for few as for many

# What $x_i$ gives to $y_{2i-1}$, $y_{2i}$, $y_{2i+1}$ and $y_{2i+2}$: how often each of $w_0$, $w_1$ and $w_2$.
SHARES = ((0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))


def pays(x: Float[Tensor, "b c h w"]) -> bool:
    """Whether a map is better doubled so: on a CPU, in the dtypes of its library for it, without gradients."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and x.shape[-2] * x.shape[-1] >= MANY
        and not torch.is_grad_enabled()
    )


def double_and_convolve(
    x: Float[Tensor, "b c h w"], weight: Float[Tensor, "d c 3 3"], bias: Float[Tensor, " d"] | None
) -> Float[Tensor, "b d h2 w2"]:
    """Each pixel repeated to twice the height and width, then convolved with a border of zeros."""
    shares = weight.new_tensor(SHARES)
    both = torch.einsum("k i, l j -> i j k l", shares, shares)  # down and across
    kernel = torch.einsum("d c i j, i j k l -> c d k l", weight, both)  # rounded once
    return F.conv_transpose2d(x, kernel, bias, stride=2, padding=1)
