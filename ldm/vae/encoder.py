r"""The VAE's encoder: pixels to the mean and log-variance of a Gaussian over latents.

Source: Rombach et al. 2022, appendix G; the architecture is that of Esser et al. 2021 (VQGAN).
"""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.config import VAEConfig
from ldm.nn.resnet import Downsample, ResBlock
from ldm.vae.mid import Mid


class EncoderLevel(nn.Module):
    """Residual blocks, then a downsample."""

    def __init__(self, in_channels: int, channels: int, blocks: int, groups: int, downsample: bool):
        """`blocks` residual blocks with an eps of 1e-6, the first from `in_channels` to `channels`.

        Without `downsample` the resolution stays the same (the coarsest level).
        """
        super().__init__()
        widths = [in_channels] + [channels] * blocks
        self.res = nn.ModuleList(ResBlock(a, b, groups=groups, eps=1e-6) for a, b in pairwise(widths))
        # Padded right and bottom only, as in the original; see `Downsample`.
        self.downsample = Downsample(channels, pad=(0, 1, 0, 1)) if downsample else None

    def forward(self, h: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        for res in self.res:
            h = res(h)
        return h if self.downsample is None else self.downsample(h)


class Encoder(nn.Module):
    """From [b, 3, H, W] to mean and log-variance, concatenated along the channels: [b, 2 z, H / f, W / f].

    z is `config.latent_channels` and f is `config.factor`.
    """

    def __init__(self, config: VAEConfig):
        super().__init__()
        channels, last = config.channels, config.channels[-1]
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            EncoderLevel(a, b, config.res_per_level, config.groups, downsample=i < len(channels) - 1)
            for i, (a, b) in enumerate(pairwise((channels[0], *channels)))
        )
        self.mid = Mid(last, config.groups)
        self.norm_out = nn.GroupNorm(config.groups, last, eps=1e-6)
        self.conv_out = nn.Conv2d(last, 2 * config.latent_channels, 3, padding=1)
        # A 1x1 convolution left over from the vector-quantised predecessor; checkpoints have it, so it stays.
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b z2 h2 w2"]:
        h = self.conv_in(pixels)
        for level in self.down:
            h = level(h)
        h = self.mid(h)
        return self.quant_conv(self.conv_out(F.silu(self.norm_out(h))))
