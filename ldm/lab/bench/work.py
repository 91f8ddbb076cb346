"""What the cases share: the device, the inputs, and the rate of matrix products to compare with."""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ldm.lab.bench.fresh import Numbers
from ldm.lab.bench.stopwatch import anonymous_memory, seconds

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # `fresh.py` hides CUDA from the CPU's cases
# Calls before and during the measurement: a GPU does in milliseconds what takes a CPU seconds.
WARM, TIMES = (3, 10) if DEVICE == "cuda" else (1, 1)
T = 500  # a timestep in the middle of the schedule


def random_normal(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "..."]:
    """Standard normal numbers, the same in every process."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def read_through(folder: Path) -> None:
    """Read every file once, so that it is in the page cache: disk speed is not what we measure."""
    for path in folder.rglob("*.safetensors"):
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass


def memory_in_use() -> int | None:
    """The CUDA device's memory if the work is done there, else this process's own."""
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else anonymous_memory()


def utilization(step: Callable[[], object], dtype: torch.dtype) -> Numbers:
    """A step's seconds, and its FLOP/s as a percentage of those of plain matrix products."""
    with FlopCounterMode(display=False) as counter:
        step()
    seconds(step, WARM)
    took = seconds(step, TIMES)
    return {"seconds": took, "share": 100 * counter.get_total_flops() / took / matmul_flops(dtype)}


def matmul_flops(dtype: torch.dtype, side: int = 8192) -> float:
    """FLOP/s of the product of two square matrices; a multiplication and an addition count as two."""
    a, b = (random_normal(seed, side, side, dtype=dtype) for seed in (1, 2))
    seconds(lambda: a @ b, WARM)
    return 2 * side**3 / seconds(lambda: a @ b, TIMES)
