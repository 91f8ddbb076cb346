r"""The U-Net: $\epsilon_\theta(x_t, t, \mathrm{context})$.

The down path trades resolution for channels, the up path trades back, and the skip connections hand every feature map
of the down path to the up path. So the coarsest level sees the whole image, and no detail of the finest level is lost.

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

The up path has one more block per level, because the skips are not only the outputs of the blocks, but also those of
conv_in and of every downsample. (A downsample's output is already coarse: it is a skip of the next coarser level.)

Ronneberger et al. (2015) introduced it for segmentation, with ReLU and max pooling; diffusion's U-Net (Ho et al.
2020, appendix B; Dhariwal & Nichol 2021; Rombach et al. 2022) has SiLU, GroupNorm, residual blocks, strided
convolutions, and attention. Modules are named in execution order: `up.0` runs first and is the coarsest.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ldm.config import UNetConfig, UNetLevel
from ldm.errors import LdmError
from ldm.nn.resnet import Downsample, ResBlock, Upsample
from ldm.unet.added import AddedEmbedding
from ldm.unet.embedding import TimeEmbedding
from ldm.unet.transformer import SpatialTransformer


class DownLevel(nn.Module):
    """Residual blocks (each followed by a transformer if the level has attention), then a downsample."""

    def __init__(self, config: UNetConfig, level: UNetLevel, in_channels: int, downsample: bool):
        super().__init__()
        widths = [in_channels] + [level.channels] * config.res_per_level
        self.res = nn.ModuleList(_res(config, a, b) for a, b in pairwise(widths))
        self.attn = nn.ModuleList(_attn(config, level, level.depth) for _ in self.res if level.depth)
        self.downsample = Downsample(level.channels, pad=(1, 1, 1, 1)) if downsample else None

    def forward(
        self, h: Float[Tensor, "b c h w"], time_emb: Float[Tensor, "b t"], context: Float[Tensor, "b m e"]
    ) -> tuple[Float[Tensor, "b d h2 w2"], list[Tensor]]:
        """Returns the output, and every feature map computed here: the skips of the up path."""
        skips = []
        for j, res in enumerate(self.res):
            h = res(h, time_emb)
            if self.attn:
                h = self.attn[j](h, context)
            skips.append(h)
        if self.downsample is not None:
            h = self.downsample(h)
            skips.append(h)
        return h, skips


class MidLevel(nn.Module):
    """At the coarsest resolution: residual block, transformer, residual block."""

    def __init__(self, config: UNetConfig, level: UNetLevel):
        super().__init__()
        self.res_1 = _res(config, level.channels, level.channels)
        self.attn = _attn(config, level, config.mid_depth)
        self.res_2 = _res(config, level.channels, level.channels)

    def forward(
        self, h: Float[Tensor, "b c h w"], time_emb: Float[Tensor, "b t"], context: Float[Tensor, "b m e"]
    ) -> Float[Tensor, "b c h w"]:
        return self.res_2(self.attn(self.res_1(h, time_emb), context), time_emb)


class UpLevel(nn.Module):
    """Residual blocks, each of which reads one skip concatenated to its input, then an upsample."""

    def __init__(
        self, config: UNetConfig, level: UNetLevel, in_channels: int, skip_channels: list[int], upsample: bool
    ):
        super().__init__()
        widths = [in_channels] + [level.channels] * (len(skip_channels) - 1)
        self.res = nn.ModuleList(
            _res(config, width + skip, level.channels)
            for width, skip in zip(widths, skip_channels, strict=True)
        )
        self.attn = nn.ModuleList(_attn(config, level, level.depth) for _ in self.res if level.depth)
        self.upsample = Upsample(level.channels) if upsample else None

    def forward(
        self,
        h: Float[Tensor, "b c h w"],
        skips: list[Tensor],
        time_emb: Float[Tensor, "b t"],
        context: Float[Tensor, "b m e"],
        size: tuple[int, int],
    ) -> Float[Tensor, "b d h2 w2"]:
        """`skips`: those of this level, in order of use. `size`: the (h, w) of the next level.

        Raises `ValueError` unless there is one skip for each residual block.
        """
        for j, (res, skip) in enumerate(zip(self.res, skips, strict=True)):
            h = res(torch.cat([h, skip], dim=1), time_emb)
            if self.attn:
                h = self.attn[j](h, context)
        return h if self.upsample is None else self.upsample(h, size)


class UNet(nn.Module):
    """Predicts the noise in a latent (or v or x0, if it was trained to predict that; see `diffusion/predict.py`)."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        first, last = config.levels[0], config.levels[-1]
        self.res_per_level = config.res_per_level
        self.time_embedding = TimeEmbedding(first.channels, 4 * first.channels, config.guidance_width)
        added = config.added
        self.added_embedding = None if added is None else AddedEmbedding(added, 4 * first.channels)
        self.conv_in = nn.Conv2d(config.in_channels, first.channels, 3, padding=1)

        width = first.channels
        skip_channels = [width]
        self.down = nn.ModuleList()
        for i, level in enumerate(config.levels):
            downsample = i < len(config.levels) - 1
            self.down.append(DownLevel(config, level, width, downsample))
            width = level.channels
            skip_channels += [width] * (config.res_per_level + downsample)

        self.mid = MidLevel(config, last)

        self.up = nn.ModuleList()
        for i, level in enumerate(reversed(config.levels)):
            own = [skip_channels.pop() for _ in range(config.res_per_level + 1)]  # last in, first out
            self.up.append(UpLevel(config, level, width, own, upsample=i < len(config.levels) - 1))
            width = level.channels

        self.norm_out = nn.GroupNorm(config.groups, first.channels, eps=1e-5)
        self.conv_out = nn.Conv2d(first.channels, config.out_channels, 3, padding=1)

    def forward(
        self,
        x_t: Float[Tensor, "b c_in h w"],
        t: Shaped[Tensor, "b"] | Shaped[Tensor, ""],
        context: Float[Tensor, "b m d"],
        residuals: Sequence[Tensor] = (),
        pooled: Float[Tensor, "b p"] | None = None,
        micro: Float[Tensor, "b k"] | None = None,
        w: Float[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b c_out h w"]:
        """`t` in [0, T), one for the batch or one per image; `context` from the text encoder; any h and w.

        `residuals`, a ControlNet's outputs: one tensor to add to each skip connection, and one for the mid level's
        output. `pooled` and `micro`: what Stable Diffusion XL's adds to the time embedding (`unet/added.py`). `w`: the
        guidance scale minus 1, for a U-Net that is told it (`unet/guidance_embedding.py`). Raises `LdmError` for a
        wrong number of channels or residuals, and for a `pooled`, `micro` or `w` that is missing.
        """
        if x_t.shape[1] != self.conv_in.in_channels:
            raise LdmError(
                f"the latent has {x_t.shape[1]} channels; this U-Net takes {self.conv_in.in_channels} (an inpainting "
                "model takes 9: latent, mask and masked latent). Give it a latent of its own VAE"
            )
        time_emb = self.embed(t.expand(x_t.shape[0]), pooled, micro, w)
        h = self.conv_in(x_t)

        skips = [h]
        for level in self.down:
            h, level_skips = level(h, time_emb, context)
            skips += level_skips

        h = self.mid(h, time_emb, context)

        if residuals:
            if len(residuals) != len(skips) + 1:
                raise LdmError(
                    f"{len(residuals)} residuals; expected one for each of the {len(skips)} skips, one for the middle"
                )
            skips = [skip + residual for skip, residual in zip(skips, residuals[:-1], strict=True)]
            h = h + residuals[-1]

        for level in self.up:
            level_skips = [skips.pop() for _ in range(self.res_per_level + 1)]
            # At odd sizes, doubling would miss the size of the next level's skips by one, so that size is given.
            height, width = skips[-1].shape[-2:] if skips else x_t.shape[-2:]
            h = level(h, level_skips, time_emb, context, size=(height, width))

        return self.head(h)

    def embed(
        self,
        t: Shaped[Tensor, "b"],
        pooled: Float[Tensor, "b p"] | None = None,
        micro: Float[Tensor, "b k"] | None = None,
        w: Float[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b e"]:
        """What every residual block is told: the timestep, and with some models more."""
        time_emb = self.time_embedding(t, w)
        if self.added_embedding is not None:
            time_emb = time_emb + self.added_embedding(pooled, micro)
        return time_emb

    def head(self, h: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c_out h w"]:
        """The output layers."""
        return self.conv_out(F.silu(self.norm_out(h)))


def _res(config: UNetConfig, in_channels: int, out_channels: int) -> ResBlock:
    time_width = 4 * config.levels[0].channels
    return ResBlock(in_channels, out_channels, groups=config.groups, eps=1e-5, time_width=time_width)


def _attn(config: UNetConfig, level: UNetLevel, depth: int) -> SpatialTransformer:
    return SpatialTransformer(level.channels, level.heads, depth, config.context_width, config.groups)
