r"""The U-Net: $\epsilon_\theta(x_t, t, \mathrm{context})$.

The way down trades resolution for channels, the way up trades back, and every feature map of the way down is
handed across to the way up (the skips). So the network sees the whole picture at its coarsest level, and
forgets no detail of the finest.

            x_t                                                    eps
             |                                                      ^
          conv_in                                       norm_out, conv_out
             |                                                      |
         down.0 (res, attn) x n ----------- skips -----------> up.2 (res, attn) x (n + 1)
             | downsample                                           ^ upsample
         down.1 (res, attn) x n ----------- skips -----------> up.1 (res, attn) x (n + 1)
             | downsample                                           ^ upsample
         down.2 (res, attn) x n ----------- skips -----------> up.0 (res, attn) x (n + 1)
             |                                                      ^
             +----------------> mid (res_1, attn, res_2) -----------+

The way up has one block more a level because the way down hands over more than its blocks' outputs: conv_in's and
every downsample's too. (A downsample's, already coarse, goes to the level below it.)

Ronneberger et al. (2015) drew it for segmentation, with ReLU and max pooling; diffusion's U-Net (Ho et al.
2020, appendix B; Dhariwal & Nichol 2021; Rombach et al. 2022) has SiLU, GroupNorm, residual blocks, strided
convolutions, and attention. The names of its modules follow execution: `up.0` runs first and is the coarsest.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ldm.config import Level, UNetConfig
from ldm.errors import LdmError
from ldm.nn.resnet import Downsample, ResBlock, Upsample
from ldm.unet.embedding import TimeEmbedding
from ldm.unet.transformer import SpatialTransformer


class DownLevel(nn.Module):
    """Residual blocks (each followed by a transformer where the level has them), then half the resolution."""

    def __init__(self, config: UNetConfig, level: Level, in_channels: int, downsample: bool):
        super().__init__()
        widths = [in_channels] + [level.channels] * config.res_per_level
        self.res = nn.ModuleList(_res(config, a, b) for a, b in pairwise(widths))
        self.attn = nn.ModuleList(_attn(config, level, level.depth) for _ in self.res if level.depth)
        self.downsample = Downsample(level.channels, pad=(1, 1, 1, 1)) if downsample else None

    def forward(
        self, h: Float[Tensor, "b c h w"], time: Float[Tensor, "b t"], context: Float[Tensor, "b m e"]
    ) -> tuple[Float[Tensor, "b d h2 w2"], list[Tensor]]:
        """Returns the features to carry on with, and all features made here, for the way up."""
        skips = []
        for j, res in enumerate(self.res):
            h = res(h, time)
            if self.attn:
                h = self.attn[j](h, context)
            skips.append(h)
        if self.downsample is not None:
            h = self.downsample(h)
            skips.append(h)
        return h, skips


class MidLevel(nn.Module):
    """The coarsest features: residual block, transformer, residual block."""

    def __init__(self, config: UNetConfig, level: Level):
        super().__init__()
        self.res_1 = _res(config, level.channels, level.channels)
        self.attn = _attn(config, level, config.mid_depth)
        self.res_2 = _res(config, level.channels, level.channels)

    def forward(
        self, h: Float[Tensor, "b c h w"], time: Float[Tensor, "b t"], context: Float[Tensor, "b m e"]
    ) -> Float[Tensor, "b c h w"]:
        return self.res_2(self.attn(self.res_1(h, time), context), time)


class UpLevel(nn.Module):
    """Residual blocks that each take in one skip, then twice the resolution."""

    def __init__(self, config: UNetConfig, level: Level, in_channels: int, skips: list[int], upsample: bool):
        super().__init__()
        widths = [in_channels] + [level.channels] * (len(skips) - 1)
        self.res = nn.ModuleList(
            _res(config, width + skip, level.channels) for width, skip in zip(widths, skips, strict=True)
        )
        self.attn = nn.ModuleList(_attn(config, level, level.depth) for _ in self.res if level.depth)
        self.upsample = Upsample(level.channels) if upsample else None

    def forward(
        self,
        h: Float[Tensor, "b c h w"],
        skips: list[Tensor],
        time: Float[Tensor, "b t"],
        context: Float[Tensor, "b m e"],
        size: tuple[int, int],
    ) -> Float[Tensor, "b d h2 w2"]:
        """`skips` are this level's own, in the order in which they are used; `size` is the next level's (h, w)."""
        for j, (res, skip) in enumerate(zip(self.res, skips, strict=True)):
            h = res(torch.cat([h, skip], dim=1), time)
            if self.attn:
                h = self.attn[j](h, context)
        return h if self.upsample is None else self.upsample(h, size)


class UNet(nn.Module):
    """Predicts the noise in a latent (or v, or x0: whatever it was trained on; see `diffusion/predict.py`)."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        first, last = config.levels[0], config.levels[-1]
        self.res_per_level = config.res_per_level
        self.time_embedding = TimeEmbedding(first.channels, 4 * first.channels)
        self.conv_in = nn.Conv2d(config.in_channels, first.channels, 3, padding=1)

        width = first.channels
        skips = [width]  # the channels of every feature map that is handed over
        self.down = nn.ModuleList()
        for i, level in enumerate(config.levels):
            halve = i < len(config.levels) - 1
            self.down.append(DownLevel(config, level, width, downsample=halve))
            width = level.channels
            skips += [width] * (config.res_per_level + halve)

        self.mid = MidLevel(config, last)

        self.up = nn.ModuleList()
        for i, level in enumerate(reversed(config.levels)):
            own = [skips.pop() for _ in range(config.res_per_level + 1)]  # the last made is the first used
            self.up.append(UpLevel(config, level, width, own, upsample=i < len(config.levels) - 1))
            width = level.channels

        self.norm_out = nn.GroupNorm(config.groups, first.channels, eps=1e-5)
        self.conv_out = nn.Conv2d(first.channels, config.out_channels, 3, padding=1)

    def forward(
        self,
        x_t: Float[Tensor, "b c_in h w"],
        t: Shaped[Tensor, "b"] | Shaped[Tensor, ""],
        context: Float[Tensor, "b m d"],
    ) -> Float[Tensor, "b c_out h w"]:
        """`t` in [0, T), one for the batch or one a picture; `context` from the text encoder. Any h and w do."""
        if x_t.shape[1] != self.conv_in.in_channels:
            raise LdmError(
                f"the latent has {x_t.shape[1]} channels; this U-Net takes {self.conv_in.in_channels} (an inpainting "
                "model takes 9: latent, mask and masked latent). Give it a latent of its own VAE"
            )
        time = self.time_embedding(t.expand(len(x_t)))
        h = self.conv_in(x_t)

        skips = [h]
        for level in self.down:
            h, made = level(h, time, context)
            skips += made

        h = self.mid(h, time, context)

        for level in self.up:
            own = [skips.pop() for _ in range(self.res_per_level + 1)]
            # At odd sizes, doubling would miss the next level's skips by a pixel: aim for their size.
            height, width = skips[-1].shape[-2:] if skips else x_t.shape[-2:]
            h = level(h, own, time, context, size=(height, width))

        return self.conv_out(F.silu(self.norm_out(h)))


def _res(config: UNetConfig, in_channels: int, out_channels: int) -> ResBlock:
    time_width = 4 * config.levels[0].channels
    return ResBlock(in_channels, out_channels, groups=config.groups, eps=1e-5, time_width=time_width)


def _attn(config: UNetConfig, level: Level, depth: int) -> SpatialTransformer:
    return SpatialTransformer(level.channels, level.heads, depth, config.context_width, config.groups)
