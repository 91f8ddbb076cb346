r"""Matrix products and convolutions of whole numbers from -127 to 255, which processors with VNNI multiply fastest.

A number is approximated by a step $s$ times a whole number of 8 bits, counted from a zero point $z$:

$$x \approx s\,(q - z), \qquad s = \frac{\max x - \min x}{254}, \qquad z = \lceil -\min x / s \rceil, \qquad
  q = \mathrm{round}(x / s) + z$$

An input has one $s$ and one $z$. A weight has one step $t_o$ for each output, $w_{oc} \approx t_o\, p_{oc}$ with $p$
from -127 to 127, and needs no zero point. So the sum is one of whole numbers, and both steps come out of it:

$$y_o = \sum_c w_{oc}\, x_c + b_o \;\approx\; s\, t_o \sum_c p_{oc}\, (q_c - z) + b_o$$

AVX-512's instruction for this (VNNI) multiplies 64 pairs at a time and adds them up in 32 bits, without rounding; that
for bfloat16 multiplies 32. Processors without either would multiply more slowly, and the usual way around it, sums of
16 bits, overflows. So there it is refused.

The steps of an input are found anew at each call, which takes a few per cent of the product's time, instead of being
fixed beforehand from examples (*calibration*). The range changes with the noise level, so a fixed one is too wide
at some and too narrow at others: with an earlier tiny model it was worse at high noise, where the image is decided.
And prompt and negative prompt, which share a batch, share the step: their errors are alike, and cancel where guidance
subtracts one prediction from the other. (One step for each image would be narrower, and was worse.)

What stays as it is (`stays`) is little work and sensitive. Inputs that were not normalised, or multiplied with each
other, have a few large numbers, which widen the step for all others.

Results differ from the plain layers', so an option asks for this: docs/fast.md shows by how much. Source: Jacob et al.
2018, section 2; Krishnamoorthi 2018, for one step per output.
"""

import math
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ldm.backend.cpu import instruction_sets
from ldm.backend.gradients import needs_gradient
from ldm.errors import LdmError
from ldm.unet.unet import UNet

INSTRUCTIONS = ("avx512_vnni", "amx_int8")  # either will do
DTYPES = (torch.float32, torch.bfloat16)  # of inputs and outputs
# float32 has 23 bits after the leading one: adding 2^23 to a number below it leaves the whole number in the last bits.
ROUNDING = 2.0**23

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


class Quantized(NamedTuple):
    """A tensor as whole numbers: `step * (numbers - zero)`."""

    numbers: Tensor
    step: float | Tensor
    zero: int = 0

    def value(self) -> Tensor:
        """The numbers that it stands for, in float32."""
        return self.step * (self.numbers.float() - self.zero)


class Packed:
    """A layer's quantized weight in the order that the kernel reads it, and the weight that it was made from.

    Copying or pickling it gives None: it is made again when it is needed.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d):
        self.source, self.version = layer.weight.detach(), layer.weight._version
        weight = quantize_weight(self.source)
        assert isinstance(weight.step, Tensor)
        self.steps = weight.step.flatten()
        self.zeros = torch.zeros_like(self.steps, dtype=torch.int32)
        self.bias = None if layer.bias is None else layer.bias.detach().float()
        if isinstance(layer, nn.Conv2d):
            shape = layer.stride, layer.padding, layer.dilation, layer.groups
            self.weight = torch.ops.onednn.qconv_prepack(weight.numbers, self.steps, 1.0, 0, *shape, None)
        else:
            self.weight = torch.ops.onednn.qlinear_prepack(weight.numbers, None)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(None), ()

    def is_of(self, weight: Tensor) -> bool:
        """Whether that is still the weight: a LoRA replaces it, or it was changed in place."""
        return self.source.data_ptr() == weight.data_ptr() and self.version == weight._version


class Int8Linear(nn.Linear):
    """`nn.Linear` of whole numbers; the plain one where gradients are needed, and on other devices."""

    packed: Packed | None = None

    def forward(self, input: Float[Tensor, "*n c"]) -> Float[Tensor, "*n d"]:
        rows = input.reshape(-1, input.shape[-1])
        x = quantize(rows) if is_possible(rows, self) else None
        if x is None:
            return super().forward(input)
        p = packed(self)
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(x.numbers, x.step, x.zero, p.weight, p.steps, p.zeros, p.bias),
            *(1.0, 0, input.dtype, "none", [], ""),  # the output is not quantized, and nothing follows
        )
        return y.view(*input.shape[:-1], -1)


class Int8Conv2d(nn.Conv2d):
    """`nn.Conv2d` of whole numbers; the plain one where gradients are needed, and on other devices."""

    packed: Packed | None = None

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        x = quantize(input) if is_possible(input, self) and self.padding_mode == "zeros" else None
        if x is None:
            return super().forward(input)
        p, shape = packed(self), (self.stride, self.padding, self.dilation, self.groups)
        y: Tensor = torch.ops.onednn.qconv2d_pointwise(
            *(x.numbers, x.step, x.zero, p.weight, p.steps, p.zeros, p.bias, *shape),
            *(1.0, 0, input.dtype, "none", [], ""),
        )
        return y


def use_int8(unet: UNet) -> None:
    """Compute most layers of a U-Net in 8 bits from now on.

    Such a layer takes about half of bfloat16's time, a whole step gains less (docs/fast.md). The weights are kept, for
    LoRAs and gradients; those in 8 bits take half as much memory again. Raises `LdmError` where that is not faster or
    not possible.
    """
    check_int8(unet.conv_in.weight)
    for name, part in unet.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and not stays(name):
            part.__class__ = Int8Linear if isinstance(part, nn.Linear) else Int8Conv2d


def stays(name: str) -> bool:
    """Whether a layer of the U-Net is left as it is."""
    parts = name.split(".")
    return (
        parts[0] in ("conv_in", "conv_out", "time_embedding", "added_embedding")
        or parts[-1] in ("time_proj", "skip")
        or parts[-2:] in (["cross_attn", "k"], ["cross_attn", "v"], ["feed_forward", "proj_out"])
    )


def check_int8(weight: Tensor) -> None:
    """Raise `LdmError` unless layers with such weights, on this machine, can be computed in 8 bits and are faster."""
    dtype = str(weight.dtype).removeprefix("torch.")
    if weight.device.type != "cpu":
        raise LdmError(
            f"8-bit integers on {weight.device.type!r}; they are for a CPU: leave out int8, or take the device cpu"
        )
    if weight.dtype not in DTYPES:
        raise LdmError(f"8-bit integers beside {dtype}; expected float32 or bfloat16: take another dtype")
    if not (set(INSTRUCTIONS) & set(instruction_sets()) and torch.backends.mkldnn.is_available()):
        raise LdmError(
            "this processor has no instructions for 8-bit integers (AVX-512 VNNI or AMX): they would be slow; "
            "leave out int8"
        )


def is_possible(x: Tensor, layer: nn.Linear | nn.Conv2d) -> bool:
    """Whether a layer's input can be quantized here: no gradient flows through whole numbers."""
    return (
        x.device.type == "cpu"
        and x.dtype == layer.weight.dtype
        and x.dtype in DTYPES
        and x.numel() > 0
        and not needs_gradient(x, *layer.parameters())
        and not torch.compiler.is_compiling()
    )


def quantize(x: Float[Tensor, "*n"]) -> Quantized | None:
    """x as whole numbers from 0 to 255, of which zero is always one; None if x is not finite.

    Feature maps keep their order in memory, or get channels last, the kernel's.
    """
    x = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
    x = x.contiguous()
    low, high = (float(value) for value in torch.aminmax(x))
    if not math.isfinite(high - low):
        return None
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 254 or 1.0  # 255 with the one that rounding up the zero point takes
    zero = math.ceil(-low / step)
    numbers = x.float() * (1 / step)
    numbers = numbers.add_(ROUNDING + zero).view(torch.int32).to(torch.uint8)
    return Quantized(numbers.permute(0, 3, 1, 2) if x.ndim == 4 else numbers, step, zero)


def quantize_weight(weight: Float[Tensor, "d c *k"]) -> Quantized:
    """A weight as whole numbers from -127 to 127, with one step for each output."""
    largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True).float()
    steps = torch.where(largest > 0, largest / 127, 1.0)
    return Quantized((weight / steps).round().to(torch.int8), steps)


def packed(layer: Int8Linear | Int8Conv2d) -> Packed:
    """The layer's weight in 8 bits, made when it is first needed or has changed."""
    found = layer.packed
    if found is None or not found.is_of(layer.weight):
        found = layer.packed = Packed(layer)
    return found
