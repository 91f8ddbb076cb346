r"""Attention a head and some queries at a time, for a processor on which torch's kernel is slow.

Each query's weights are a softmax of their own: no query has to wait for another. So they may come in pieces, and of
the n x m weights only a piece's are there at a time, in the processor's cache. (Rabe & Staats 2021; they and torch's
kernel, Dao et al. 2022, go in pieces through the keys, too, which takes more care.)

The kernel is quick in bfloat16 where the CPU has AMX. With the instructions of AVX-512 alone it takes as long as in
float32, and two products with a softmax between are quicker: a step of Stable Diffusion 1's U-Net takes a fifth less
(docs/bench.md). A good part of that comes from writing all scores to one place, and all weights to another, which the
processor then has in its cache; another from $e^x = 2^{x \log_2 e}$, as torch's exp2 is quicker than its exp.

The scores have to be float32, for with the two digits of bfloat16 one of 10 may be off by 0.03, and its weight by 3%.
So q and k are widened, and the products are oneDNN's (`ldm/products.py`). It may round them to bfloat16, which loses
nothing, for that is what they were; other threads' products may be rounded, too, for as long as this takes.
"""

import math
from typing import TypeVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ldm.bfloat16 import bfloat16_instructions
from ldm.nn.attention import Attention, attention
from ldm.products import products_by_onednn

ROOM = 2**21  # weights in a piece, those of 512 queries on 4096 keys: as scores they take 8 MB
MANY = 2**16  # weights of a head from which on it pays: 256 pixels that look at one another

Network = TypeVar("Network", bound=nn.Module)


def use_pieces(network: Network) -> Network:
    """Have a network's attention computed in pieces where that is quicker; returns the same network."""
    if bfloat16_instructions() == "AVX-512":
        for part in network.modules():
            if isinstance(part, Attention):
                part.kernel = quickest_attention
    return network


def quickest_attention(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b h m d"],
    v: Float[Tensor, "b h m d"],
    causal: bool = False,
) -> Float[Tensor, "b h n d"]:
    """In pieces for many weights of bfloat16 on the CPU, else by torch's kernel.

    By the kernel, too, where gradients are wanted, for which every piece would be kept, and where torch compiles, which
    would write out each piece.
    """
    halved = q.device.type == "cpu" and q.dtype == torch.bfloat16
    many = q.shape[-2] * k.shape[-2] >= MANY
    wanted = any(t.requires_grad for t in (q, k, v))
    if halved and many and not (causal or wanted or torch.compiler.is_compiling()):
        return attention_in_pieces(q, k, v)
    return attention(q, k, v, causal)


def attention_in_pieces(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"], v: Float[Tensor, "b h m d"]
) -> Float[Tensor, "b h n d"]:
    r"""$\mathrm{softmax}(QK^\top / \sqrt d)\, V$, computed a head and some queries at a time."""
    queries = max(1, min(q.shape[-2], ROOM // k.shape[-2]))
    scale = math.log2(math.e) * q.shape[-1] ** -0.5
    scores = q.new_empty(queries, k.shape[-2], dtype=torch.float32)
    weights = v.new_empty(scores.shape)
    mixed = v.new_empty(*q.shape[:-1], v.shape[-1])
    heads = (rearrange(t, "b h n d -> (b h) n d") for t in (q.float(), k.float(), v, mixed))
    with products_by_onednn():
        for head_q, head_k, head_v, head_mixed in zip(*heads, strict=True):
            for piece, result in zip(head_q.split(queries), head_mixed.split(queries), strict=True):
                s, w = scores[: len(piece)], weights[: len(piece)]
                torch.addmm(s, piece, head_k.T, beta=0, alpha=scale, out=s)
                s.sub_(s.amax(dim=-1, keepdim=True)).exp2_()  # softmax, with 2^(x log2 e) for e^x
                w.copy_(s.div_(s.sum(dim=-1, keepdim=True)))
                torch.mm(w, head_v, out=result)
    return mixed
