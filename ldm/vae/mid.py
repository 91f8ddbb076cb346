r"""The middle of the VAE, at its coarsest resolution; the encoder and the decoder have one each.

It holds the VAE's only attention layer: at this resolution it is cheap, and it lets distant parts of the image agree.
"""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ldm.nn.attention import Attention
from ldm.nn.resnet import ResBlock


class SpatialSelfAttention(nn.Module):
    """Single-head self-attention over the positions of a feature map, added to it."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.attn = Attention(channels, heads=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        tokens = rearrange(self.norm(x), "b c h w -> b (h w) c")
        return x + rearrange(self.attn(tokens), "b (h w) c -> b c h w", h=x.shape[-2])


class Mid(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.res_1 = ResBlock(channels, channels, groups=groups, eps=1e-6)
        self.attn = SpatialSelfAttention(channels, groups)
        self.res_2 = ResBlock(channels, channels, groups=groups, eps=1e-6)

    def forward(self, h: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.res_2(self.attn(self.res_1(h)))
