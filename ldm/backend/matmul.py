r"""Float32 matrix products, by the faster of torch's two libraries.

torch comes with two libraries that can multiply matrices: Intel's MKL, and oneDNN, which also does the convolutions.
torch uses MKL. On an AMD CPU with AVX-512 that may be the slower one: on some, a step of Stable Diffusion 1's U-Net in
float32 takes 30% less time with oneDNN (docs/bench.md). So a trial decides (`trial.py`).

torch has no switch for this, but a related one: it lets oneDNN round numbers to bfloat16 before it multiplies them,
where a CPU gains by that, and then sends the products to oneDNN. A CPU with AVX-512's instructions alone gains nothing
by rounding, and oneDNN leaves the numbers as they are. This is undocumented, so we first test it on values that
rounding would change.

oneDNN prepares each product anew, which takes longer than a small product itself. torch's fused attention consists of
many small ones, one for each block of a head's scores: those stay with MKL (`MKLAttention`).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.backend.cpu import bfloat16_instructions
from ldm.backend.threads import SharedSetting
from ldm.backend.trial import Trial, wins
from ldm.nn.attention import Attention


def use_onednn_matmul() -> bool:
    """Route float32 matrix products to oneDNN from now on, where that is faster and exact. Returns whether it does.

    The setting is process-wide, so a program has to ask for it. Never beside a CUDA card, which would do the products:
    torch has older switches for the card's precision, and refuses to read them once this one is set.
    """
    if not onednn_is_faster():
        return False
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    return True


def faster_matmul() -> AbstractContextManager[None]:
    """A block in which float32 matrix products on the CPU are oneDNN's, where it is faster and exact."""
    return onednn_matmul() if onednn_is_faster() else nullcontext()


@cache
def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than MKL on this machine, and loses no digits."""
    return (
        bfloat16_instructions() == "AVX-512"
        and not torch.cuda.is_available()
        and not onednn_rounds()
        and wins(TRIAL)
    )


def matmul_rounds() -> bool:
    """Whether float32 matrix products lose digits: $64 (1 + 2^{-18})^2$ would come out as 64."""
    x = torch.full((64, 64), 1 + 2**-18, dtype=torch.float32, device="cpu")
    return bool((x @ x <= 64).any())


def onednn_rounds() -> bool:
    """Whether they lose digits inside `onednn_matmul`."""
    with onednn_matmul():
        return matmul_rounds()


class MKLAttention(Attention):
    """`Attention`, whose small products are MKL's even where oneDNN does the others."""

    def attend(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m d"],
        causal: bool = False,
    ) -> Float[Tensor, "b h n d"]:
        with mkl_matmul() if goes_to_onednn(q) else nullcontext():
            return super().attend(q, k, v, causal)


def goes_to_onednn(x: Tensor) -> bool:
    """Whether products of such a tensor are oneDNN's by now."""
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and setting.fp32_precision == "bf16"
        and not torch.compiler.is_compiling()
    )


def _set_precision(precision: str) -> Callable[[], None]:
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    setting.fp32_precision = precision

    def undo() -> None:
        setting.fp32_precision = before

    return undo


# `with onednn_matmul():` sends float32 matrix products on the CPU to oneDNN, which may round to bfloat16 first: it may
# where the CPU has instructions for bfloat16, and does with AMX. On other CPUs it has no effect. torch has one setting
# for all threads; it is restored once no thread needs it any more.
onednn_matmul = SharedSetting(partial(_set_precision, "bf16"))

# `with mkl_matmul():` takes them back to MKL.
mkl_matmul = SharedSetting(partial(_set_precision, "ieee"))


def multiply() -> Callable[[], Tensor]:
    """A linear layer of Stable Diffusion 1's U-Net, on a quarter of its pixels."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(1024, n, generator=generator) for n in (1024, 2560))
    return lambda: a @ b


def multiply_with_onednn() -> Callable[[], Tensor]:
    """The same with `onednn_matmul`."""
    work = multiply()

    def product() -> Tensor:
        with onednn_matmul():
            return work()

    return product


TRIAL = Trial("float32 matrix products by oneDNN", plain=multiply, faster=multiply_with_onednn)
