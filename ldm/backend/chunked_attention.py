r"""Attention one head and one chunk of queries at a time, for CPUs on which torch's fused kernel is slow.

Each query's softmax is independent of the others, so queries can be processed in chunks. Only one chunk of the n x m
weights exists at a time, small enough to stay in the processor's cache. (Rabe & Staats 2021. They and torch's kernel,
Dao et al. 2022, also chunk the keys, which needs a running softmax.)

torch's kernel is fast in bfloat16 on CPUs with AMX. With AVX-512's bfloat16 instructions alone it is as slow as in
float32, and two matrix products with a softmax between them are faster: a step of Stable Diffusion 1's U-Net takes a
fifth less time (docs/bench.md). Much of that comes from reusing one buffer for all scores and one for all weights,
which then stay in cache; some from $e^x = 2^{x \log_2 e}$, because torch's exp2 is faster than its exp.

The scores must be float32: with bfloat16's 8 bits of precision a score of 10 may be off by 0.03, and its weight by 3%.
So q and k are widened, and the products go to oneDNN (`matmul.py`). oneDNN may round them back to bfloat16, which loses
nothing, because that is what they were.
"""

import math
from functools import cache

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ldm.backend.cpu import bfloat16_instructions
from ldm.backend.matmul import onednn_matmul, onednn_rounds
from ldm.nn.attention import Attention

CHUNK_SIZE = 2**21  # weights in a chunk, e.g. of 512 queries and 4096 keys: as float32 scores they take 8 MB
THRESHOLD = 2**16  # weights per head from which on it is faster: self-attention over 256 pixels


class ChunkedAttention(Attention):
    """`Attention`, in chunks wherever that is faster."""

    def attend(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m d"],
        causal: bool = False,
    ) -> Float[Tensor, "b h n d"]:
        if self.by_hand or causal or not is_faster(q, k, v):
            return super().attend(q, k, v, causal)
        return chunked_attention(q, k, v)


def is_faster(q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"], v: Float[Tensor, "b h m d"]) -> bool:
    """Whether chunks are faster: many bfloat16 weights, on a CPU with AVX-512's instructions for it but without AMX.

    Not when gradients are needed, since the backward pass would store every chunk, nor under torch.compile, which would
    unroll the loop.
    """
    return (
        q.device.type == "cpu"
        and q.dtype == torch.bfloat16
        and q.shape[-2] * k.shape[-2] >= THRESHOLD
        and bfloat16_instructions() == "AVX-512"
        and not any(t.requires_grad for t in (q, k, v))
        and not torch.compiler.is_compiling()
        and loses_nothing()
    )


@cache
def loses_nothing() -> bool:
    """Whether oneDNN leaves float32 as it is. If not, the products of other threads would be rounded meanwhile, too."""
    return not onednn_rounds()


def chunked_attention(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"], v: Float[Tensor, "b h m d"]
) -> Float[Tensor, "b h n d"]:
    r"""$\mathrm{softmax}(QK^\top / \sqrt d)\, V$, one head and `CHUNK_SIZE` weights at a time."""
    queries = max(1, min(q.shape[-2], CHUNK_SIZE // k.shape[-2]))
    scale = math.log2(math.e) * q.shape[-1] ** -0.5
    scores = q.new_empty(queries, k.shape[-2], dtype=torch.float32)
    weights = v.new_empty(scores.shape)
    mixed = v.new_empty(*q.shape[:-1], v.shape[-1])
    heads = (rearrange(t, "b h n d -> (b h) n d") for t in (q.float(), k.float(), v, mixed))
    with onednn_matmul():
        for head_q, head_k, head_v, head_mixed in zip(*heads, strict=True):
            for chunk, result in zip(head_q.split(queries), head_mixed.split(queries), strict=True):
                s, w = scores[: len(chunk)], weights[: len(chunk)]
                torch.addmm(s, chunk, head_k.T, beta=0, alpha=scale, out=s)
                s.sub_(s.amax(dim=-1, keepdim=True)).exp2_()  # softmax, with 2^(x log2 e) for e^x
                w.copy_(s.div_(s.sum(dim=-1, keepdim=True)))
                torch.mm(w, head_v, out=result)
    return mixed
