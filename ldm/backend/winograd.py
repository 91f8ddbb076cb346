r"""3x3 convolutions with 4 multiplications for each output instead of 9, by Winograd's minimal filtering.

Two neighbouring outputs of a kernel $g_0, g_1, g_2$ along a row $d_0 \ldots d_3$ take six products:
$y_0 = d_0 g_0 + d_1 g_1 + d_2 g_2$ and $y_1 = d_1 g_0 + d_2 g_1 + d_3 g_2$. Winograd 1980 found that four are enough:

$$m_1 = (d_0 - d_2)\, g_0, \quad m_2 = (d_1 + d_2)\, \tfrac{g_0 + g_1 + g_2}{2}, \quad
  m_3 = (d_2 - d_1)\, \tfrac{g_0 - g_1 + g_2}{2}, \quad m_4 = (d_1 - d_3)\, g_2$$

$$y_0 = m_1 + m_2 + m_3, \qquad y_1 = m_2 - m_3 - m_4$$

In two dimensions this is done along rows and then along columns: each 2x2 block of outputs takes 16 products instead of
36 (Lavin & Gray 2016, section 4.1). The sums before and after belong to a pixel, and the products to a pair of
channels, so with hundreds of channels the products decide. For each of the 16 places in a block they are one matrix
product, of all blocks' inputs with all kernels.

The kernels are transformed anew in each call: for the large maps that the gain comes from, that takes a few per cent of
the time, and no second copy of the weights has to be kept or kept up to date.

Sums before the products are rounded, too. In float32 the result differs by about $10^{-6}$ of its size; in bfloat16 the
rounding error is three times that of the plain convolution. docs/bench.md has the gain.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ldm.backend.gradients import needs_gradient
from ldm.backend.matmul import faster_matmul
from ldm.backend.trial import Trial, wins

Transform = list[list[float]]

# Rows of the transforms of Lavin & Gray 2016, eq. 7, by which the sums above are written as matrix products.
INPUT: Transform = [[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, -1.0, 1.0, 0.0], [0.0, 1.0, 0.0, -1.0]]
KERNEL: Transform = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]]
OUTPUT: Transform = [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, -1.0]]

CHANNELS = 256  # of input and output, from which on the products outweigh the sums
PIXELS = {
    torch.float32: 512,
    torch.bfloat16: 2048,
}  # in a batch, from which on they outweigh the kernels' transform
BLOCKS = 1024  # transformed at a time, so that what is between the sums takes little memory


class WinogradConv2d(nn.Conv2d):
    """`nn.Conv2d`, by Winograd's filtering wherever that is faster."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        if is_small_kernel(self) and is_large_map(input, self.weight) and wins(TRIALS[input.dtype]):
            return winograd_conv(input, self.weight, self.bias)
        return super().forward(input)


def is_small_kernel(conv: nn.Conv2d) -> bool:
    """Whether it is 3x3, of stride 1, with one row of zeros around the map."""
    return (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1)) and (
        (conv.dilation, conv.groups, conv.padding_mode) == ((1, 1), 1, "zeros")
    )


def is_large_map(x: Float[Tensor, "b c h w"], weight: Float[Tensor, "d c 3 3"]) -> bool:
    """Whether products decide: many channels and pixels, on a CPU, in a supported dtype, without gradients."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in PIXELS
        and min(weight.shape[:2]) >= CHANNELS
        and x.shape[0] * x.shape[2] * x.shape[3] >= PIXELS[x.dtype]
        and not needs_gradient(x, weight)
        and not torch.compiler.is_compiling()
    )


def winograd_conv(
    x: Float[Tensor, "b c h w"], weight: Float[Tensor, "d c 3 3"], bias: Float[Tensor, " d"] | None
) -> Float[Tensor, "b d h w"]:
    """A convolution of stride 1 with zero padding, in 2x2 blocks of outputs."""
    kernels = transformed_kernels(weight)
    height, width = x.shape[2:]
    rows, columns = -(-height // 2), -(-width // 2)  # of blocks; the last may be cut off by the edge
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1 + width % 2, 1, 1 + height % 2))
    result = x.new_empty(len(x), 2 * rows, 2 * columns, len(weight))
    images = max(1, BLOCKS // (rows * columns))
    block_rows = max(1, BLOCKS // columns)
    with faster_matmul():
        for part, place in zip(padded.split(images), result.split(images), strict=True):
            for top in range(0, rows, block_rows):
                blocks = part[:, 2 * top : 2 * (top + block_rows) + 2].unfold(1, 4, 2).unfold(2, 4, 2)
                place[:, 2 * top : 2 * (top + block_rows)] = convolved_blocks(blocks, kernels)
    if bias is not None:
        result += bias
    return result[:, :height, :width].permute(0, 3, 1, 2)


def transformed_kernels(weight: Float[Tensor, "d c 3 3"]) -> Float[Tensor, "16 c d"]:
    r"""$G g G^\top$ of every kernel g, for each of the 16 places a matrix of all pairs of channels."""
    by_place = torch.mm(both_axes(KERNEL, weight), rearrange(weight, "d c k l -> (k l) (d c)"))
    return by_place.view(16, *weight.shape[:2]).transpose(1, 2)


def convolved_blocks(
    blocks: Float[Tensor, "b m n c 4 4"], kernels: Float[Tensor, "16 c d"]
) -> Float[Tensor, "b m2 n2 d"]:
    r"""$A^\top \left[ (G g G^\top) \odot (B^\top d B) \right] A$ (Lavin & Gray 2016, eq. 8), summed over channels."""
    b, m, n, c = blocks.shape[:4]
    inputs = torch.mm(both_axes(INPUT, kernels), rearrange(blocks, "b m n c i j -> (i j) (b m n c)"))
    products = torch.bmm(inputs.view(16, -1, c), kernels)
    outputs = torch.mm(both_axes(OUTPUT, kernels), products.view(16, -1))
    return rearrange(outputs, "(i j) (b m n d) -> b (m i) (n j) d", i=2, b=b, m=m, n=n)


def both_axes(transform: Transform, like: Tensor) -> Float[Tensor, "p q"]:
    """One matrix that applies a transform along rows and along columns, to blocks laid out as vectors."""
    rows = like.new_tensor(transform)
    return torch.kron(rows, rows)


def example(dtype: torch.dtype, conv: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
    """A convolution of Stable Diffusion 1's U-Net."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 640, 32, 32, generator=generator).to(dtype, memory_format=torch.channels_last)
    weight = torch.randn(640, 640, 3, 3, generator=generator).to(dtype, memory_format=torch.channels_last)
    return partial(conv, x, weight)


TRIALS = {
    dtype: Trial(
        f"Winograd convolutions, {str(dtype).removeprefix('torch.')}",
        plain=partial(example, dtype, partial(F.conv2d, padding=1)),
        faster=partial(example, dtype, partial(winograd_conv, bias=None)),
    )
    for dtype in PIXELS
}
