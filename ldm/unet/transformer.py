r"""The spatial transformer: where the image reads the prompt.

A feature map of h x w positions becomes a sequence of h*w tokens. In each block every position attends to all positions
(self-attention: the left eye should match the right one), then to the tokens of the prompt (cross-attention: queries
from the image, keys and values from the text), and finally a feed-forward layer processes each position separately.

Source: Rombach et al. 2022, section 3.3 and appendix E.2.1.
"""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ldm.nn.attention import Attention


class FeedForward(nn.Module):
    r"""A two-layer perceptron with gated hidden units, "GEGLU" (Shazeer 2020, eq. 6, plus biases):

    $$\mathrm{FFN}(x) = W_\mathrm{out}\,\bigl(a \odot \mathrm{GELU}(g)\bigr) + b_\mathrm{out},
      \qquad [a, g] = W_\mathrm{in} x + b_\mathrm{in}$$

    The value $a$ is the first half of the projection and the gate $g$ the second; GELU is the exact one.
    """

    def __init__(self, width: int):
        super().__init__()
        self.proj_in = nn.Linear(width, 2 * 4 * width)
        self.proj_out = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        value, gate = self.proj_in(x).chunk(2, dim=-1)
        return self.proj_out(value * F.gelu(gate))


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward: each reads a normalised copy of x and adds its output to x."""

    def __init__(self, width: int, heads: int, context_width: int):
        super().__init__()
        self.norm_1 = nn.LayerNorm(width, eps=1e-5)
        self.self_attn = Attention(width, heads, qkv_bias=False)
        self.norm_2 = nn.LayerNorm(width, eps=1e-5)
        self.cross_attn = Attention(width, heads, context_width, qkv_bias=False)
        self.norm_3 = nn.LayerNorm(width, eps=1e-5)
        self.feed_forward = FeedForward(width)

    def forward(self, x: Float[Tensor, "b n d"], context: Float[Tensor, "b m c"]) -> Float[Tensor, "b n d"]:
        x = x + self.self_attn(self.norm_1(x))
        x = x + self.cross_attn(self.norm_2(x), context)
        return x + self.feed_forward(self.norm_3(x))


class SpatialTransformer(nn.Module):
    """`depth` transformer blocks between two linear maps; the result is added to the input.

    (Stable Diffusion 1's files hold the linear maps as 1x1 convolutions, which compute the same thing.)
    """

    def __init__(self, channels: int, heads: int, depth: int, context_width: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)  # 1e-6 here, 1e-5 in the residual blocks
        self.proj_in = nn.Linear(channels, channels)
        self.layers = nn.ModuleList(
            BasicTransformerBlock(channels, heads, context_width) for _ in range(depth)
        )
        self.proj_out = nn.Linear(channels, channels)

    def forward(
        self, x: Float[Tensor, "b c h w"], context: Float[Tensor, "b m d"]
    ) -> Float[Tensor, "b c h w"]:
        height = x.shape[-2]
        h = self.proj_in(rearrange(self.norm(x), "b c h w -> b (h w) c"))
        for layer in self.layers:
            h = layer(h, context)
        return x + rearrange(self.proj_out(h), "b (h w) c -> b c h w", h=height)
