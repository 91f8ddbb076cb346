r"""The VAE's decoder: latents back to pixels. It mirrors the encoder, with one more residual block per level.

Source: Rombach et al. 2022, appendix G.
"""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.config import VAEConfig
from ldm.errors import LdmError
from ldm.nn.resnet import ResBlock, Upsample
from ldm.vae.mid import Mid


class DecoderLevel(nn.Module):
    """Residual blocks, then an upsample."""

    def __init__(self, in_channels: int, channels: int, blocks: int, groups: int, upsample: bool):
        super().__init__()
        widths = [in_channels] + [channels] * blocks
        self.res = nn.ModuleList(ResBlock(a, b, groups=groups, eps=1e-6) for a, b in pairwise(widths))
        self.upsample = Upsample(channels) if upsample else None

    def forward(self, h: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        for res in self.res:
            h = res(h)
        return h if self.upsample is None else self.upsample(h)


class Decoder(nn.Module):
    """From an (unscaled) latent [b, z, h, w] to pixels [b, 3, f h, f w], in [-1, 1] apart from overshoot."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        channels = config.channels[::-1]  # coarsest first
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.conv_in = nn.Conv2d(config.latent_channels, channels[0], 3, padding=1)
        self.mid = Mid(channels[0], config.groups)
        self.up = nn.ModuleList(
            DecoderLevel(a, b, config.res_per_level + 1, config.groups, upsample=i < len(channels) - 1)
            for i, (a, b) in enumerate(pairwise((channels[0], *channels)))
        )
        self.norm_out = nn.GroupNorm(config.groups, channels[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        return self.enlarge(self.middle(z))

    def middle(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b c h w"]:
        """The part that runs at the latent's own resolution. Raises `LdmError` for a wrong number of channels."""
        expected = self.post_quant_conv.in_channels
        if z.shape[1] != expected:
            raise LdmError(f"a latent of {z.shape[1]} channels; this VAE decodes {expected}")
        return self.mid(self.conv_in(self.post_quant_conv(z)))

    def enlarge(self, h: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """The rest, up to pixels. It takes nearly all the memory, and only its GroupNorms are not local."""
        for level in self.up:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))
