r"""The order in which a feature map's numbers are stored: *channels last*.

A tensor [b, c, h, w] usually stores one whole channel after another. Channels last keeps its shape and its values, and
stores the c numbers of a pixel next to each other, b h w c. Convolutions add the numbers up in that order, and
transformers want their tokens that way: `b c h w -> b (h w) c` then moves nothing.

In bfloat16 on a CPU convolutions gain a lot: a step of Stable Diffusion 1's U-Net took 12% less time with AMX and 8%
less with AVX-512. CUDA's tensor cores prefer the same order in half precision, according to PyTorch's tutorial on
memory formats (not measured here). There `converted` rearranges the weights, and the activations follow.

In float32 on a CPU it saves memory rather than time: oneDNN's convolutions use a blocked order of their own, and copy a
map stored channel by channel before and after. Rearranging the input is enough, so the weights may stay mapped from
their file. Results differ in the last bits, because sums are formed in another order.

torch then rearranges the weights in each call. Beside the large maps of Stable Diffusion that is little, but for one
image with the tiny model it is not: `rearrange_kernels` does it once, for a copy of the weights.
The command line calls it; `ldm.load` does not, because safetensors writes no tensor that is stored in another order.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ldm.unet.unet import UNet
from ldm.vae.decoder import Decoder
from ldm.vae.encoder import Encoder

# Where convolutions in half precision want their channels last.
HALF_PRECISION = (("cpu", torch.bfloat16), ("cuda", torch.float16), ("cuda", torch.bfloat16))
KERNELS = 64  # converted at a time; with 1280 channels, 1.5 MB in half precision


class ChannelsLastUNet(UNet):
    """`UNet`, its input in the order that its convolutions want.

    Not in training: GroupNorm is slow in that order when a group has few channels, as in the tiny model.
    """

    def forward(
        self, x_t: Float[Tensor, "b c_in h w"], *others: Any, **named: Any
    ) -> Float[Tensor, "b c_out h w"]:
        return super().forward(x_t if self.training else channels_last_input(x_t), *others, **named)


class ChannelsLastEncoder(Encoder):
    """`Encoder`, its input in the order that its convolutions want."""

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b z2 h2 w2"]:
        return super().forward(channels_last_input(pixels))


class ChannelsLastDecoder(Decoder):
    """`Decoder`, its input in the order that its convolutions want."""

    def middle(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b c h w"]:
        return super().middle(channels_last_input(z))


def channels_last_input(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """x with its channels last if it is float32 on a CPU, otherwise unchanged; what is computed from it follows."""
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return x.contiguous(memory_format=torch.channels_last)
    return x


def rearrange_kernels(unet: UNet) -> None:
    """Store the weights of a small U-Net's float32 convolutions on a CPU with their channels last."""
    for part in unet.modules():
        if isinstance(part, nn.Conv2d) and (part.weight.device.type, part.weight.dtype) == (
            "cpu",
            torch.float32,
        ):
            part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def converted(weight: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """One weight on that device, in that dtype and the fastest format for both: the same tensor, or a copy.

    `KERNELS` kernels at a time are rounded and then rearranged while they are in cache. Doing both at once takes twice
    as long, because torch has no fast code for it.
    """
    if weight.ndim != 4 or (device.type, dtype) not in HALF_PRECISION:
        return weight.to(device, dtype)
    result = torch.empty(weight.shape, dtype=dtype, device=device, memory_format=torch.channels_last)
    for part, kernels in zip(result.split(KERNELS), weight.split(KERNELS), strict=True):
        part.copy_(kernels.to(device, dtype))
    return result
