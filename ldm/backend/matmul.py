r"""Products of float32 matrices, by the quicker of torch's two libraries.

torch comes with two that can multiply them: MKL, which is Intel's, and oneDNN, which also does the convolutions. It
takes MKL. On an AMD CPU with AVX-512 that is the slower one: by oneDNN a step of Stable Diffusion 1's U-Net in float32
takes 30% less time (docs/bench.md).

torch has no switch for this, but one for something else. It lets oneDNN round the numbers to bfloat16 before it
multiplies them, where a CPU gains by that; then the products go to oneDNN. A CPU that has AVX-512's instructions alone
gains nothing by it, and oneDNN leaves the numbers as they are. Nobody promises that. So it is tried first, on numbers
that would not survive.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from ldm.backend.cpu import bfloat16_instructions
from ldm.backend.threads import WhileNeeded


def quick_products() -> bool:
    """From now on products of float32 matrices are oneDNN's, where that is quicker and no digit is lost.

    For all of torch, so it is for a program to decide. Returns whether they are. Never beside a CUDA card, which would
    do the products: torch has older switches for the card's precision, and refuses to read them once this one is set.
    Other threads' products are oneDNN's then, too.
    """
    if bfloat16_instructions() != "AVX-512" or torch.cuda.is_available():
        return False
    if rounded_by_onednn():
        return False
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    return True


def rounded() -> bool:
    """Whether products of float32 matrices lose digits: $64 (1 + 2^{-18})^2$ would come out as 64."""
    x = torch.full((64, 64), 1 + 2**-18, dtype=torch.float32, device="cpu")
    return bool((x @ x <= 64).any())


def rounded_by_onednn() -> bool:
    """Whether they do inside of `products_by_onednn`."""
    with products_by_onednn():
        return rounded()


def products_by_onednn() -> AbstractContextManager[None]:
    """While it lasts, products of float32 matrices on the CPU go to oneDNN, which may round to bfloat16 first.

    It may where the CPU has instructions for bfloat16, and does with AMX. Without them all stays as it was. torch has
    one setting for all threads: it is as before once no thread needs it any more.
    """
    return _by_onednn()


def _set_onednn() -> Callable[[], None]:
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"

    def undo() -> None:
        setting.fp32_precision = before

    return undo


_by_onednn = WhileNeeded(_set_onednn)
