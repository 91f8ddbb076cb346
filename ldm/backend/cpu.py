r"""Which of the CPU's instructions, if any, compute in bfloat16; and what the CPU is called.

bfloat16 is float32 without its last 16 bits: the same range, two to three significant decimal digits. Half as many
bytes move through memory, and a processor that supports the format multiplies several times as many numbers at once.
One that does not has to widen every number first and round the result, and float32 is faster there.

x86 has two kinds. AMX (Intel Xeon, from 2023) multiplies whole tiles of a matrix in a dedicated unit. AVX-512 BF16
(AMD from Zen 4, Intel Cooper Lake) multiplies and adds pairs, 32 numbers at a time. docs/bench.md has measurements.
"""

import platform
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")
# torch's name -> the usual one, the faster first.
INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512"}
DECISIVE = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def bfloat16_instructions() -> str | None:
    """AMX or AVX-512, the faster one if the CPU has both; None if it has neither, or torch cannot tell."""
    has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return next((name for flag, name in INSTRUCTIONS.items() if has.get(flag)), None)


def instruction_sets() -> list[str]:
    """Of the instructions that decide how fast a CPU multiplies, those that it has, as torch names them."""
    has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return [name for name in DECISIVE if has.get(name)]


def cpu_name(info: Path = CPUINFO) -> str:
    """The CPU's model name on Linux, elsewhere its architecture."""
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cpu_identity(info: Path = CPUINFO) -> str:
    """The CPU's model name, family, model and stepping: processors of one name can be of different generations."""
    lines = info.read_text().split("\n\n")[0].splitlines() if info.is_file() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    numbers = [f"{name} {fields[name]}" for name in ("cpu family", "model", "stepping") if name in fields]
    return ", ".join([cpu_name(info), *numbers])
