r"""Attention a head and some queries at a time, for a processor on which torch's kernel is slow.

Each query's weights are a softmax of their own: no query has to wait for another. So they may come in pieces, and of
the n x m weights only a piece's are there at a time, in the processor's cache. (Rabe & Staats 2021; they and torch's
kernel, Dao et al. 2022, go in pieces through the keys, too, which takes more care.)

The kernel is quick in bfloat16 where the CPU has AMX. With the instructions of AVX-512 alone it takes as long as in
float32, but torch's plain products (oneDNN) do use them, and two products with a softmax between are quicker: a step of
Stable Diffusion 1's U-Net takes a sixth less (docs/bench.md).

The scores have to be float32, for with the two digits of bfloat16 one of 10 may be off by 0.03, and its weight by 3%.
So q and k are widened, and oneDNN is told to multiply as bfloat16, which loses nothing, for that is what they were, and
to add up in float32. It is told for all of torch, and for as long as this takes: float32 products of other threads are
rounded, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ldm.bfloat16 import bfloat16_instructions
from ldm.nn.attention import Attention, attention

QUERIES = 512  # in a piece: its scores over 4096 keys are 8 MB
MANY = 2**20  # weights of a head from which on it pays: 1024 pixels that look at one another

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
    if halved and many and not (causal or q.requires_grad or torch.compiler.is_compiling()):
        return attention_in_pieces(q, k, v)
    return attention(q, k, v, causal)


def attention_in_pieces(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"], v: Float[Tensor, "b h m d"]
) -> Float[Tensor, "b h n d"]:
    r"""$\mathrm{softmax}(QK^\top / \sqrt d)\, V$, computed a head and `QUERIES` queries at a time."""
    heads, scale = (q.float(), k.float(), v), q.shape[-1] ** -0.5
    mixed = []
    with products_of_bfloat16():
        for queries, keys, values in zip(*(rearrange(t, "b h n d -> (b h) n d") for t in heads), strict=True):
            for piece in queries.split(QUERIES):
                weights = (piece @ keys.T).mul_(scale).softmax(dim=-1)
                mixed.append(weights.to(v.dtype) @ values)
    return rearrange(torch.cat(mixed), "(b h n) d -> b h n d", b=q.shape[0], h=q.shape[1])


@contextmanager
def products_of_bfloat16() -> Iterator[None]:
    """Products of float32 matrices on the CPU: their numbers are rounded to bfloat16 first, and summed in float32."""
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before
