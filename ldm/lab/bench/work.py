"""What all arms share: where they work, the numbers that they work on, and what is told of it."""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ldm.lab.bench.fresh import Numbers
from ldm.lab.bench.stopwatch import anonymous_memory, seconds

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # `fresh.py` hides the card from the cases of the CPU
# Calls before the watch starts, and while it runs: a card does in milliseconds what takes a CPU seconds.
WARM, TIMES = (3, 10) if DEVICE == "cuda" else (1, 1)
T = 500  # a timestep in the middle of the schedule


def numbers(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "..."]:
    """Standard normal numbers, the same for both arms."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def read_through(folder: Path) -> None:
    """Read every file once, so that the system has it in memory: the disk is not what is measured."""
    for path in folder.rglob("*.safetensors"):
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass


def memory_in_use() -> int | None:
    """Of the card, if the work is done there; else this process's own."""
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else anonymous_memory()


def share(step: Callable[[], object], dtype: torch.dtype) -> Numbers:
    """A step's seconds, and how much of the rate of plain matrix products it reaches, in per cent."""
    with FlopCounterMode(display=False) as counter:
        step()
    seconds(step, WARM)
    took = seconds(step, TIMES)
    return {"seconds": took, "share": 100 * counter.get_total_flops() / took / matrix_rate(dtype)}


def matrix_rate(dtype: torch.dtype, side: int = 8192) -> float:
    """Multiplications and additions a second, each counted, in the product of two square matrices."""
    a, b = (numbers(seed, side, side, dtype=dtype) for seed in (1, 2))
    seconds(lambda: a @ b, WARM)
    return 2 * side**3 / seconds(lambda: a @ b, TIMES)
