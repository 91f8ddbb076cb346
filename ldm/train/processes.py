r"""Data-parallel training: the same weights from one device or from eight.

    torchrun --nproc-per-node 2 -m ldm train diffusion

starts the same program twice (Li et al. 2020, "PyTorch Distributed"). Each process draws the random numbers of the
*whole* batch from the seed and the step, then works on its own slice of the batch, so the batch itself is never
communicated. Only two things are:

**Gradients.** A loss that is a mean over b samples, split into n equal slices, is the mean of the losses of the slices,

$$L = \frac1b \sum_{i=1}^{b} \ell_i = \frac1n \sum_{k=1}^{n} L_k, \qquad
  L_k = \frac{n}{b} \sum_{i \in k} \ell_i,$$

and so is its gradient: after `average_gradients`, every process takes the step that a single process would take.

**Embeddings.** CLIP's loss compares every image with every text of the batch, so it is not such a mean: half a batch
has only half the negatives. `all_gather` gives every process all embeddings, and each computes the whole loss L. Its
backward pass sums $\partial L / \partial x_k$ for slice k over the n processes, which is n times the gradient in a
single process; the mean over processes then removes the factor n.

Without torchrun there is one process, whose slice is the whole batch, and nothing here has any effect.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from ldm.errors import LdmError

# The variables that torchrun sets.
TORCHRUN = "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"


@contextmanager
def process_group() -> Iterator[None]:
    """Connect the processes that torchrun started; without torchrun, do nothing.

    The backend is gloo on CPUs and NCCL on CUDA devices, one device per process.
    """
    if not all(name in os.environ for name in TORCHRUN):
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0. Only process 0 writes files and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def device() -> torch.device:
    """The training device: this process's CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def barrier() -> None:
    """Wait for all processes, so that all can read what process 0 has written."""
    if world_size() > 1:
        dist.barrier()


def slice_for_rank(batch: int) -> slice:
    """This process's slice of the whole batch. Raises `LdmError` if the batch cannot be split evenly."""
    if batch % world_size():
        raise LdmError(
            f"a batch of {batch} for {world_size()} processes; expected an even split: start a number of processes "
            f"(--nproc-per-node) that divides {batch}"
        )
    size = batch // world_size()
    return slice(rank() * size, (rank() + 1) * size)


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        slices = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(slices, x.contiguous())
        return torch.cat(slices)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)  # the sum over processes
        return total[slice_for_rank(len(total))]


def all_gather(x: Float[Tensor, "local d"]) -> Float[Tensor, "b d"]:
    """The rows of all processes, in batch order. Gradients flow back to the process that owns each row."""
    return _AllGather.apply(x) if world_size() > 1 else x


def all_reduce_mean(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The mean of x over all processes."""
    if world_size() == 1:
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total / world_size()


def average_gradients(module: nn.Module) -> None:
    """Replace each gradient by its mean over all processes, in one all-reduce.

    Parameters without a gradient are skipped; they must be the same in every process.
    """
    if world_size() == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = all_reduce_mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def mean_over_ranks(*numbers: float) -> list[float]:
    """The mean of each number over all processes."""
    return all_reduce_mean(torch.tensor(numbers, dtype=torch.float64, device=device())).tolist()
