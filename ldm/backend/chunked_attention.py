r"""Attention in bfloat16, one head and one chunk of queries at a time, for CPUs on which torch's fused kernel is slow.

Each query's softmax is independent of the others, so queries can be processed in chunks. Only one chunk of the n x m
weights exists at a time, small enough to stay in the processor's cache. (Rabe & Staats 2021. They and torch's kernel,
Dao et al. 2022, also chunk the keys, which needs a running softmax.)

torch's kernel multiplies in bfloat16 and does everything between the two products in float32. With AVX-512 the products
are quick and what is between them takes half of the time. So here scores are bfloat16, too. Its 8 bits of precision
would not do for scores as they are: one of 20 may be off by 0.06, and its weight by 6%. But softmax does not change
when the same number is added to all scores of a query, and scores near zero are precise. So the largest score of a
query is made about zero, which makes the weights that count precise. It is estimated from every 16th key, and
subtracted inside the product, before that is rounded: the query gets one more coordinate, minus the estimate, and every
key a one.

The sum of the weights, by which softmax divides, comes out of the second product in the same way: every value gets a
one more. So between the products only $2^x$ is left (for $e^x$ with the scale multiplied by $\log_2 e$).

Errors are 2 to 6 times the fused kernel's, and about half of what rounding plain scores would give. docs/bench.md has
the gain, and what it changes in an image.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ldm.backend.gradients import needs_gradient
from ldm.backend.matmul import MKLAttention
from ldm.backend.trial import Trial, wins
from ldm.nn.attention import attention

QUERIES = 256  # in a chunk: with 4096 keys, scores of 2 MB
KEYS = 1024  # from which on it can be faster
EVERY = 16  # one key of so many is looked at for an estimate of the largest score


class ChunkedAttention(MKLAttention):
    """`Attention`, in chunks wherever that is faster; elsewhere with the library that is faster for it."""

    def attend(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m d"],
        causal: bool = False,
    ) -> Float[Tensor, "b h n d"]:
        if self.by_hand or causal or not may_be_faster(q, k, v) or not wins(TRIAL):
            return super().attend(q, k, v, causal)
        return chunked_attention(q, k, v)


def may_be_faster(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"], v: Float[Tensor, "b h m d"]
) -> bool:
    """Whether it is worth a trial: many bfloat16 keys and queries, on a CPU.

    Not when gradients are needed, since the backward pass would store every chunk, nor under torch.compile, which would
    unroll the loop.
    """
    return (
        q.device.type == "cpu"
        and q.dtype == torch.bfloat16
        and min(q.shape[-2], k.shape[-2]) >= KEYS
        and not needs_gradient(q, k, v)
        and not torch.compiler.is_compiling()
    )


def chunked_attention(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"], v: Float[Tensor, "b h m d"]
) -> Float[Tensor, "b h n d"]:
    r"""$\mathrm{softmax}(QK^\top / \sqrt d)\, V$, one head and `QUERIES` queries at a time.

    If a score exceeds its query's estimate by more than bfloat16 can express, torch's kernel does it all again.
    """
    given = q, k, v
    mixed = v.new_empty(*q.shape[:-1], v.shape[-1])
    q = (q.float() * (math.log2(math.e) * q.shape[-1] ** -0.5)).to(q.dtype)
    ones = v.new_ones(*v.shape[:-1], 1)
    k, v = with_column(k, ones), with_column(v, ones)
    scores = q.new_empty(QUERIES, k.shape[-2])
    for image in range(q.shape[0]):
        for head in range(q.shape[1]):
            mix_head(q[image, head], k[image, head], v[image, head], scores, mixed[image, head])
    return mixed if mixed.isfinite().all() else attention(*given)


def mix_head(
    q: Float[Tensor, "n d"],
    k: Float[Tensor, "m d2"],
    v: Float[Tensor, "m e2"],
    scores: Float[Tensor, "chunk m"],
    mixed: Float[Tensor, "n e"],
) -> None:
    """Write one head's output into `mixed`. `k` and `v` end with a column of ones; `scores` is scratch memory."""
    width = mixed.shape[-1]
    largest = torch.mm(q, k[::EVERY, : q.shape[-1]].T).amax(dim=-1, keepdim=True)
    shifted = with_column(q, -largest)
    for chunk, result in zip(shifted.split(QUERIES), mixed.split(QUERIES), strict=True):
        weights = torch.mm(chunk, k.T, out=scores[: len(chunk)]).exp2_()
        sums = torch.mm(weights, v).float()
        result.copy_(sums[:, :width] / sums[:, width : width + 1])


def with_column(x: Float[Tensor, "*l d"], column: Float[Tensor, "*l 1"]) -> Float[Tensor, "*l d2"]:
    """x with one more column and then zeros up to a multiple of 16, the numbers that the CPU multiplies at once."""
    return F.pad(torch.cat([x, column], dim=-1), (0, -(x.shape[-1] + 1) % 16))


def example(attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], object]:
    """Two heads of Stable Diffusion 1's largest self-attention, over half of the positions."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 2048, 40, generator=generator).bfloat16() for _ in range(3))
    return partial(attend, q, k, v)


TRIAL = Trial(
    "attention in chunks, bfloat16",
    plain=partial(example, attention),
    faster=partial(example, chunked_attention),
)
