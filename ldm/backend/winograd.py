r"""3x3 convolutions with 2.25 or 4 multiplications for each output instead of 9, by Winograd's minimal filtering.

Two neighbouring outputs of a kernel $g_0, g_1, g_2$ along a row $d_0 \ldots d_3$ take six products:
$y_0 = d_0 g_0 + d_1 g_1 + d_2 g_2$ and $y_1 = d_1 g_0 + d_2 g_1 + d_3 g_2$. Winograd 1980 found that four are enough:

$$m_1 = (d_0 - d_2)\, g_0, \quad m_2 = (d_1 + d_2)\, \tfrac{g_0 + g_1 + g_2}{2}, \quad
  m_3 = (d_2 - d_1)\, \tfrac{g_0 - g_1 + g_2}{2}, \quad m_4 = (d_1 - d_3)\, g_2$$

$$y_0 = m_1 + m_2 + m_3, \qquad y_1 = m_2 - m_3 - m_4$$

Where do these sums come from? The factors of the kernel are values of a polynomial at 0, 1, -1 and, so to speak,
infinity, up to a factor of one half. A product of polynomials is known once its values at enough points are, and there
it takes one multiplication a point: filtering is the same with rows and columns exchanged. With more points a block can
be larger. Four outputs of a row take six products instead of twelve, at five points and infinity:

$$g(t) = g_0 + g_1 t + g_2 t^2, \qquad t = 0,\; \sqrt 2,\; -\sqrt 2,\; \sqrt{1/2},\; -\sqrt{1/2}$$

A larger block costs digits, because the powers of its points differ in size; opposites and reciprocals keep that small.

In two dimensions this is done along rows and then along columns: each 2x2 block of outputs takes 16 products instead of
36, and each 4x4 block 36 instead of 144 (Lavin & Gray 2016, section 4). The sums before and after belong to a pixel,
and the products to a pair of channels, so with hundreds of channels the products decide. For each of the 16 or 36
places in a block they are one matrix product, of all blocks' inputs with all kernels.

The kernels are transformed anew in each call: for the large maps that the gain comes from, that takes at most a tenth
of the time, and no second copy of the weights has to be kept or kept up to date.

Sums before the products are rounded, too. In float32 the result differs by about $10^{-6}$ of its size. In bfloat16,
where only 2x2 blocks are used, the rounding error is three times that of the plain convolution. There the sums are
matrix products as well, because these round once; in float32 adding up, place by place, takes less time. docs/bench.md
has the gain.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ldm.backend.gradients import needs_gradient
from ldm.backend.matmul import faster_matmul
from ldm.backend.trial import Trial, wins

Matrix = list[list[int | float]]
ROOT, HALF = 2**0.5, 0.5**0.5  # the square roots of 2 and of one half

PIXELS = 4096  # of output that are computed at a time, so that what is between the sums stays in cache


@dataclass(frozen=True)
class Filtering:
    """The sums by which a block of side x side outputs is computed, written as matrices (Lavin & Gray 2016, eq. 7)."""

    side: int
    input: Matrix
    kernel: Matrix
    output: Matrix


TWO = Filtering(
    side=2,
    input=[[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    kernel=[[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    output=[[1, 1, 1, 0], [0, 1, -1, -1]],
)
FOUR = Filtering(
    side=4,
    input=[
        [1, 0, -5 / 2, 0, 1, 0],
        [0, -HALF, -1 / 2, ROOT, 1, 0],
        [0, HALF, -1 / 2, -ROOT, 1, 0],
        [0, -ROOT, -2, HALF, 1, 0],
        [0, ROOT, -2, -HALF, 1, 0],
        [0, 1, 0, -5 / 2, 0, 1],
    ],
    kernel=[
        [1, 0, 0],
        [1 / 6, ROOT / 6, 1 / 3],
        [1 / 6, -ROOT / 6, 1 / 3],
        [-2 / 3, -ROOT / 3, -1 / 3],
        [-2 / 3, ROOT / 3, -1 / 3],
        [0, 0, 1],
    ],
    output=[
        [1, 1, 1, 1, 1, 0],
        [0, ROOT, -ROOT, HALF, -HALF, 0],
        [0, 2, 2, 1 / 2, 1 / 2, 0],
        [0, 2 * ROOT, -2 * ROOT, HALF / 2, -HALF / 2, 1],
    ],
)


class WinogradConv2d(nn.Conv2d):
    """`nn.Conv2d`, by Winograd's filtering wherever that is faster."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        use = use_for(input, self.weight) if is_small_kernel(self) else None
        if use is not None and wins(use.trial):
            return winograd_conv(input, self.weight, self.bias, use.filtering)
        return super().forward(input)


def is_small_kernel(conv: nn.Conv2d) -> bool:
    """Whether it is 3x3, of stride 1, with one row of zeros around the map."""
    return (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1)) and (
        (conv.dilation, conv.groups, conv.padding_mode) == ((1, 1), 1, "zeros")
    )


def winograd_conv(
    x: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "d c 3 3"],
    bias: Float[Tensor, " d"] | None,
    filtering: Filtering,
) -> Float[Tensor, "b d h w"]:
    """A convolution of stride 1 with zero padding, in square blocks of outputs."""
    kernels, side = transformed_kernels(weight, filtering), filtering.side
    height, width = x.shape[2:]
    rows, columns = -(-height // side), -(-width // side)  # of blocks; the last may be cut off by the edge
    result = x.new_empty(len(x), side * rows, side * columns, len(weight))
    blocks = PIXELS // side**2
    with faster_matmul():
        images, height_at_once = max(1, blocks // (rows * columns)), side * max(1, blocks // columns)
        for part, place in zip(x.permute(0, 2, 3, 1).split(images), result.split(images), strict=True):
            for top in range(0, side * rows, height_at_once):
                outputs = place[:, top : top + height_at_once]
                inputs = transformed_inputs(surroundings(part, top, *outputs.shape[1:3]), filtering)
                add_up_products(torch.bmm(inputs, kernels), filtering, outputs)
    if bias is not None:
        result += bias
    return result[:, :height, :width].permute(0, 3, 1, 2)


def surroundings(
    x: Float[Tensor, "b h w c"], top: int, height: int, width: int
) -> Float[Tensor, "b h2 w2 c"]:
    """Rows top - 1 to top + height and columns -1 to width, with zeros where the map has none."""
    found = x[:, max(0, top - 1) : top + height + 1]
    above = int(top == 0)
    return F.pad(found, (0, 0, 1, 1 + width - x.shape[2], above, height + 2 - above - found.shape[1]))


def transformed_kernels(weight: Float[Tensor, "d c 3 3"], filtering: Filtering) -> Float[Tensor, "p c d"]:
    r"""$G g G^\top$ of every kernel g, for each place in a block a matrix of all pairs of channels."""
    kernels = rearrange(weight, "d c k l -> (k l) (d c)")
    by_place = torch.mm(both_axes(filtering.kernel, weight), kernels)
    return by_place.view(-1, *weight.shape[:2]).transpose(1, 2)


def transformed_inputs(x: Float[Tensor, "b h w c"], filtering: Filtering) -> Float[Tensor, "p bmn c"]:
    r"""$B^\top d B$ of every block's input d, which overlaps its neighbours' by two rows and columns."""
    b, side, places = len(x), filtering.side, len(filtering.input)
    m, n = (x.shape[1] - 2) // side, (x.shape[2] - 2) // side
    if x.dtype == torch.bfloat16:
        inputs = x.unfold(1, places, side).unfold(2, places, side)
        inputs = rearrange(inputs, "b m n c i j -> (i j) (b m n c)")
        return torch.mm(both_axes(filtering.input, x), inputs).view(places**2, b * m * n, -1)
    rows = x.new_empty(places, b, m, *x.shape[2:])
    weighted_sums(filtering.input, [x[:, i : i + side * m : side] for i in range(places)], rows)
    result = x.new_empty(places, places, b, m, n, x.shape[3])
    weighted_sums(
        filtering.input,
        [rows[..., j : j + side * n : side, :] for j in range(places)],
        result.unbind(1),
    )
    return result.view(places**2, b * m * n, -1)


def add_up_products(
    products: Float[Tensor, "p bmn d"], filtering: Filtering, result: Float[Tensor, "b h w d"]
) -> None:
    r"""$A^\top M A$ of every block's products M."""
    side, places = filtering.side, len(filtering.input)
    by_place = rearrange(result, "b (m k) (n l) d -> k l b m n d", k=side, l=side)
    if products.dtype == torch.bfloat16:
        outputs = torch.mm(both_axes(filtering.output, products), products.view(places**2, -1))
        by_place.copy_(outputs.view(by_place.shape))
        return
    products = products.view(places, places, *by_place.shape[2:])
    rows = products.new_empty(side, *products.shape[1:])
    weighted_sums(filtering.output, products.unbind(0), rows)
    weighted_sums(filtering.output, rows.unbind(1), by_place.unbind(1))


def weighted_sums(matrix: Matrix, parts: Sequence[Tensor], results: Iterable[Tensor]) -> None:
    """The product of a matrix and the parts, written into `results` row by row. Each addition rounds."""
    for row, result in zip(matrix, results, strict=True):
        (weight, part), *others = [(w, part) for w, part in zip(row, parts, strict=True) if w]
        torch.mul(part, weight, out=result)
        for weight, part in others:
            result.add_(part, alpha=weight)


def both_axes(matrix: Matrix, like: Tensor) -> Float[Tensor, "p q"]:
    """One matrix that does the same along rows and along columns, to blocks laid out as vectors."""
    rows = like.new_tensor(matrix)
    return torch.kron(rows, rows)


@dataclass(frozen=True)
class Use:
    """Where products outweigh sums: from how many channels of input and output on, and pixels in a batch."""

    filtering: Filtering
    channels: int
    pixels: int
    trial: Trial


def use_for(x: Float[Tensor, "b c h w"], weight: Float[Tensor, "d c 3 3"]) -> Use | None:
    """The largest blocks that are worth it: on a CPU, in a supported dtype, without gradients."""
    if (
        x.device.type != "cpu"
        or x.dtype != weight.dtype
        or needs_gradient(x, weight)
        or torch.compiler.is_compiling()
    ):
        return None
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    for use in USES.get(x.dtype, ()):
        if min(weight.shape[:2]) >= use.channels and pixels >= use.pixels:
            return use
    return None


def example(
    dtype: torch.dtype, channels: int, side: int, conv: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[], object]:
    """A convolution of Stable Diffusion 1's U-Net."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, channels, side, side, generator=generator)
    weight = torch.randn(channels, channels, 3, 3, generator=generator)
    x, weight = (t.to(dtype, memory_format=torch.channels_last) for t in (x, weight))
    return partial(conv, x, weight)


def trial(filtering: Filtering, dtype: torch.dtype, channels: int, side: int) -> Trial:
    """One such convolution in both ways."""
    return Trial(
        f"Winograd convolutions in blocks of {filtering.side}, {str(dtype).removeprefix('torch.')}",
        plain=partial(example, dtype, channels, side, partial(F.conv2d, padding=1)),
        faster=partial(
            example, dtype, channels, side, partial(winograd_conv, bias=None, filtering=filtering)
        ),
    )


# The sums of larger blocks cost more digits than bfloat16 has, and more time for the kernels.
USES = {
    torch.float32: (
        Use(FOUR, channels=128, pixels=4096, trial=trial(FOUR, torch.float32, 320, 64)),
        Use(TWO, channels=256, pixels=512, trial=trial(TWO, torch.float32, 640, 32)),
    ),
    torch.bfloat16: (Use(TWO, channels=256, pixels=2048, trial=trial(TWO, torch.bfloat16, 640, 32)),),
}
TRIALS = tuple(use.trial for uses in USES.values() for use in uses)
