"""What the cases share: seconds and bytes, inputs, and the rate of matrix products to compare with."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ldm.lab.bench.fresh import Numbers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # `fresh.py` hides CUDA from the CPU's cases
# Calls before and during the measurement: a GPU does in milliseconds what takes a CPU seconds.
WARM, TIMES = (3, 10) if DEVICE == "cuda" else (1, 1)
T = 500  # a timestep in the middle of the schedule
STATUS = Path("/proc/self/status")  # Linux's account of this process
INTERVAL = 0.01  # seconds between two readings of the memory


def seconds(work: Callable[[], object], times: int = 1) -> float:
    """The duration of one call of `work`, averaged over `times` calls."""
    synchronize()
    start = time.perf_counter()
    for _ in range(times):
        work()
    synchronize()
    return (time.perf_counter() - start) / times


def synchronize() -> None:
    """Wait for the CUDA device, if one is in use: it computes asynchronously."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def anonymous_memory(status: Path = STATUS) -> int | None:
    """Bytes of memory that belong to this process and to no file; None where the system does not report it.

    Memory-mapped weights do not count: under memory pressure, the system drops their pages and rereads them.
    """
    if not status.is_file():
        return None
    for line in status.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024  # "RssAnon:     1234 kB"
    return None


@dataclass
class Peak:
    """The most memory seen so far, in bytes; None where the system does not report it."""

    bytes: int | None = None


@contextmanager
def peak_memory(read: Callable[[], int | None] = anonymous_memory) -> Iterator[Peak]:
    """Poll the memory from another thread while the block runs: Linux does not record the peak itself."""
    peak, over = Peak(read()), threading.Event()

    def poll() -> None:
        while not over.wait(INTERVAL):
            now = read()
            if now is not None:
                peak.bytes = max(peak.bytes or 0, now)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def timed(work: Callable[[], object], times: int = TIMES) -> Numbers:
    """The seconds of a call, after some to warm up."""
    seconds(work, WARM)
    return {"seconds": seconds(work, times)}


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


def utilization(step: Callable[[], object], dtype: torch.dtype, times: int = TIMES) -> Numbers:
    """A step's seconds, and its FLOP/s as a percentage of those of plain matrix products."""
    with FlopCounterMode(display=False) as counter:
        step()
    took = timed(step, times)["seconds"]
    return {"seconds": took, "share": 100 * counter.get_total_flops() / took / matmul_flops(dtype)}


def matmul_flops(dtype: torch.dtype, side: int = 8192 if DEVICE == "cuda" else 4096) -> float:
    """FLOP/s of the product of two square matrices; a multiplication and an addition count as two."""
    a, b = (random_normal(seed, side, side, dtype=dtype) for seed in (1, 2))
    return 2 * side**3 / timed(lambda: a @ b)["seconds"]


def conv_flops(dtype: torch.dtype, channels: int = 512, side: int = 64) -> float:
    """FLOP/s of torch's 3x3 convolution of a feature map as large as in Stable Diffusion's decoder."""
    x = random_normal(1, 1, channels, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = random_normal(2, channels, channels, 3, 3, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    return 2 * 9 * (channels * side) ** 2 / timed(lambda: F.conv2d(x, weight, padding=1))["seconds"]
