r"""In which order the numbers of a feature map lie in memory.

A tensor [b, c, h, w] usually holds one whole channel after another. *Channels last* keeps its shape and its meaning,
and puts the c numbers of a pixel side by side, b h w c. That is the order in which a convolution adds them up, and the
one in which a transformer wants its tokens: `b c h w -> b (h w) c` then moves nothing at all.

In bfloat16 on a CPU the convolutions gain much: a step of Stable Diffusion 1's U-Net took 12% less time with matrix
units (AMX), 8% with AVX-512. The matrix units of CUDA cards (tensor cores) want the same order in half precision, says
PyTorch's tutorial on memory formats; that was not measured here. There `lay_out` changes the weights, and what comes
out of them follows.

In float32 on a CPU the gain is memory, and no time: the convolutions of torch (oneDNN) compute in an order of their
own, with channels in groups side by side, and copy a map that holds one channel after another before and after.
`pixel_by_pixel` changes only what goes in: the weights may stay where they are, mapped from their file. Numbers change
in their last bits, for sums are formed in another order.
"""

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Where a processor convolves in half precision, and with what numbers.
HALF_PRECISION = (("cpu", torch.bfloat16), ("cuda", torch.float16), ("cuda", torch.bfloat16))
KERNELS = 64  # of 1280 channels, rounded to half precision: 1.5 MB

Network = TypeVar("Network", bound=nn.Module)


def channels_last(network: nn.Module) -> None:
    """Lay out the weights of the network's convolutions so; their outputs follow, through every layer after.

    The weights are copied, one tensor at a time: a mapped file of bfloat16 weights no longer serves for them.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def lay_out(network: Network) -> Network:
    """Give a network the layout that is fastest with its dtype, on its device; returns the same network."""
    weight = next(network.parameters())
    if (weight.device.type, weight.dtype) in HALF_PRECISION:
        channels_last(network)
    return network


@torch.no_grad()
def converted(weight: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A single weight there, in that dtype, as `lay_out` would have it: the same tensor, or a copy.

    It is made from some kernels at a time, which are rounded and then laid out while they are in the processor's cache:
    to do both at once takes twice as long, for want of quick code in torch.
    """
    if weight.ndim != 4 or (device.type, dtype) not in HALF_PRECISION:
        return weight.to(device, dtype)
    laid = torch.empty(weight.shape, dtype=dtype, device=device, memory_format=torch.channels_last)
    for part, kernels in zip(laid.split(KERNELS), weight.split(KERNELS), strict=True):
        part.copy_(kernels.to(device, dtype))
    return laid


def pixel_by_pixel(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """x with its channels last if it is in float32 on a CPU, otherwise as it is. What a network makes of it follows.

    Its convolutions then have their input as they want it; docs/bench.md has what that gains.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return x.contiguous(memory_format=torch.channels_last)
    return x
