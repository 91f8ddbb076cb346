r"""Many processes, one batch: training that gives the same weights on one device and on eight.

    torchrun --nproc-per-node 2 -m ldm train diffusion

starts the same program twice (Li et al. 2020, "PyTorch Distributed", call it data-parallel training). Each process
draws the *whole* batch's random numbers from seed and step, works on its share of it, and so needs to be told
nothing. Only two things travel:

**Gradients.** A loss that is a mean over b samples, cut into n equal shares, is the mean of the shares' means,

$$L = \frac1b \sum_{i=1}^{b} \ell_i = \frac1n \sum_{k=1}^{n} L_k, \qquad
  L_k = \frac{n}{b} \sum_{i \in k} \ell_i,$$

and so is its gradient: after `average_gradients` every process takes the step that one process would have taken.

**Embeddings.** CLIP's loss compares every image with every text of the batch, so it is no such mean: half a batch
has half the wrong answers. `all_gather` gives every process all embeddings, and each computes the whole loss L. Its
backward sends the gradients home: the n processes' $\partial L / \partial x_k$ for share k are added up, which is n
times what one process would have, and the mean over processes takes that n away again.

Without torchrun there is one process, whose share is everything, and nothing here has any effect.
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

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what it tells each process


@contextmanager
def process_group() -> Iterator[None]:
    """Inside, the processes that torchrun started know one another; with a single process, nothing happens.

    They talk through gloo on CPUs, through NCCL on CUDA devices, of which each process takes one.
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
    """Which process this is, from 0. Number 0 writes the files and talks; the others only compute."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def device() -> torch.device:
    """Where to train: this process's CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def barrier() -> None:
    """Go on when all processes are here: what process 0 wrote before can then be read by all."""
    if world_size() > 1:
        dist.barrier()


def slice_for_rank(batch: int) -> slice:
    """This process's share of a batch of all. Raises `LdmError` if the batch cannot be shared out evenly."""
    if batch % world_size():
        raise LdmError(
            f"a batch of {batch} for {world_size()} processes; expected equal shares: start a number of processes "
            f"(--nproc-per-node) that divides {batch}"
        )
    share = batch // world_size()
    return slice(rank() * share, (rank() + 1) * share)


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        everyone = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(everyone, x.contiguous())
        return torch.cat(everyone)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)  # the sum over processes
        return total[slice_for_rank(len(total))]


def all_gather(x: Float[Tensor, "share d"]) -> Float[Tensor, "b d"]:
    """All processes' rows, in the order of the batch. Gradients flow back to the process that each came from."""
    return _AllGather.apply(x) if world_size() > 1 else x


def all_reduce_mean(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The mean of x over processes."""
    if world_size() == 1:
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total / world_size()


def average_gradients(module: nn.Module) -> None:
    """Replace each gradient by its mean over processes, in one message.

    Parameters without a gradient are left alone; which they are must be the same in every process.
    """
    if world_size() == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = all_reduce_mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def mean_over_ranks(*numbers: float) -> list[float]:
    """Each number's mean over processes."""
    return all_reduce_mean(torch.tensor(numbers, dtype=torch.float64, device=device())).tolist()
