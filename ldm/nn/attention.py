r"""Attention: every position of a sequence gathers information from all positions, weighted by relevance.

Each position of a sequence has a *query*; each position of the same sequence (self-attention) or of another one
(cross-attention) has a *key* and a *value*. The output for a query is a weighted average of the values; a value counts
more the better its key matches the query (Vaswani et al. 2017, eq. 1):

$$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{QK^\top}{\sqrt{d}}\right) V$$

If the entries of two vectors of length $d$ are independent, with mean 0 and variance 1, their dot product has standard
deviation $\sqrt d$; dividing by it keeps the softmax from saturating at the start of training.

One class serves all of Stable Diffusion: CLIP's causal self-attention, the U-Net's self-attention over the positions of
a feature map, its cross-attention from these to the tokens of the prompt, and the VAE's single-head attention.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ldm.errors import LdmError


def attention(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b h m d"],
    v: Float[Tensor, "b h m d"],
    causal: bool = False,
) -> Float[Tensor, "b h n d"]:
    """Attention by torch's fused kernels, most of which never store the n x m weights.

    With `causal`, position i attends only to positions up to i (n must equal m).
    """
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def attention_weights(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"], causal: bool = False
) -> Float[Tensor, "b h n m"]:
    r"""The weights $\mathrm{softmax}(QK^\top / \sqrt d)$ by hand: non-negative, and each row sums to one.

    With `causal`, position i attends only to positions up to i (see `hide_future`).
    """
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if causal:
        scores = hide_future(scores)
    return scores.softmax(dim=-1)


def hide_future(scores: Float[Tensor, "b h n n"]) -> Float[Tensor, "b h n n"]:
    r"""The causal mask: the score of query i and key j is kept for $j \le i$, and becomes $-\infty$ for $j > i$.

    The softmax turns $-\infty$ into a weight of exactly zero, and the remaining weights of the row sum to one.
    """
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(diagonal=1)
    return scores.masked_fill(future, float("-inf"))


class Attention(nn.Module):
    """Multi-head attention over sequences, with its four linear maps.

    Two implementations; a test checks that they agree. By default the fused kernel runs. With `by_hand = True` the
    weights are computed explicitly and pass through the submodule `weights_probe`, an identity: a forward hook on it
    sees them, shape [b, heads, n, m].
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None, qkv_bias: bool = True):
        """`context_width`: the width of the other sequence, for cross-attention."""
        super().__init__()
        if width % heads:
            raise LdmError(f"{heads} heads do not divide a width of {width}; correct the config")
        self.heads = heads
        self.q = nn.Linear(width, width, bias=qkv_bias)
        self.k = nn.Linear(context_width or width, width, bias=qkv_bias)
        self.v = nn.Linear(context_width or width, width, bias=qkv_bias)
        self.out = nn.Linear(width, width)
        self.by_hand = False
        self.weights_probe = nn.Identity()

    def forward(
        self, x: Float[Tensor, "b n d"], context: Float[Tensor, "b m c"] | None = None, causal: bool = False
    ) -> Float[Tensor, "b n d"]:
        """Queries come from x; keys and values from `context` if it is given (cross-attention), else from x."""
        context = x if context is None else context
        # Each head attends independently, on its own slice of the channels.
        q, k, v = (
            rearrange(t, "b n (h d) -> b h n d", h=self.heads)
            for t in (self.q(x), self.k(context), self.v(context))
        )
        return self.out(rearrange(self.attend(q, k, v, causal), "b h n d -> b n (h d)"))

    def attend(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m d"],
        causal: bool = False,
    ) -> Float[Tensor, "b h n d"]:
        """All heads at once."""
        if self.by_hand:
            return self.weights_probe(attention_weights(q, k, causal)) @ v
        return attention(q, k, v, causal)
