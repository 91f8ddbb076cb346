r"""Which instructions of the CPU, if any, compute in bfloat16.

bfloat16 is float32 without the last 16 of its binary digits: the same range, some two decimal digits. Half as much
moves through memory, and a processor that knows the format multiplies several times as many numbers at once. One that
does not know it has to widen each number first and to round after: then float32 is the quicker one.

On x86 there are two kinds. AMX (Intel's Xeon from 2023 on) multiplies whole tiles of a matrix in a unit made for that.
AVX-512 BF16 (AMD's processors from Zen 4 on, Intel's Cooper Lake) adds up products in pairs, 32 numbers at a time.
docs/bench.md has what either gives.
"""

import torch

# What torch calls them -> what people do. The faster one stands first.
INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512"}


def bfloat16_instructions() -> str | None:
    """AMX or AVX-512, the faster one if there are both; None where the CPU has neither, or torch cannot tell."""
    has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return next((name for flag, name in INSTRUCTIONS.items() if has.get(flag)), None)
