r"""ControlNet: a second network that reads an image of edges, a pose or depths, and steers the U-Net.

A prompt says what an image shows and hardly where. A ControlNet says where. It begins as a *copy* of the U-Net's first
half, the down path and the middle, so it sees what the U-Net sees: the same latent, timestep and context. Besides, it
reads the *hint*, an image of the full size, which a small encoder brings to the latent's size and adds after the first
convolution. What the copy computes is added to the U-Net's own skips and to its middle, before the way up:

    x_t ---+--- conv_in --- down ----- mid ---+--- up --- eps        the U-Net, frozen
           |                  | skips         |
           |                  +<- zero        +<- zero
           |                        |             |
           +--- conv_in --+--- down ----- mid ----+                  the ControlNet, trained
    hint --- encoder -----+

Every connection passes through a 1x1 convolution that starts at zero:

$$y = F(x; \Theta) + Z\bigl(F(x + Z(c; \Theta_{z1}); \Theta_c); \Theta_{z2}\bigr)$$

At the first step of training both $Z$ are zero, so nothing changes, and the copy begins to learn from features that are
good already. (Zeros do not stop the gradient: that of a weight is its input, which is not zero.)

Source: Zhang et al. 2023, section 3.1 and eq. 2. The paper's encoder has 16, 32, 64, 128 channels; the code, and so all
published weights, 16, 32, 96, 256.
"""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ldm.config import UNetConfig
from ldm.unet.unet import UNet

HINT_CHANNELS = (16, 32, 96, 256)  # of the hint's encoder, from the image's resolution to the latent's


class HintEncoder(nn.Module):
    """Eight convolutions from an image to a feature map of the latent's size, with SiLU between them.

    Each entry of `channels` but the first halves the resolution, so four bring an image to an eighth. The first two
    convolutions, and one after each halving, keep it.
    """

    def __init__(self, channels: tuple[int, ...], out_channels: int):
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(channels):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, padding=1, stride=2))
        self.conv_out = zero(nn.Conv2d(channels[-1], out_channels, 3, padding=1))

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """`pixels` in [0, 1], unlike those of the VAE."""
        h = F.silu(self.conv_in(pixels))
        for conv in self.blocks:
            h = F.silu(conv(h))
        return self.conv_out(h)


class ControlNet(nn.Module):
    """The first half of a U-Net, and what connects it. `config` is that of the U-Net that it was copied from.

    With `pool`, each output is averaged over height and width: the model then says nothing about where, only about
    colours and textures (ControlNet 1.1's "shuffle").
    """

    def __init__(
        self, config: UNetConfig, hint_channels: tuple[int, ...] = HINT_CHANNELS, pool: bool = False
    ):
        super().__init__()
        self.pool = pool
        copied = UNet(config)
        self.time_embedding = copied.time_embedding
        self.added_embedding = copied.added_embedding
        self.conv_in = copied.conv_in
        self.hint = HintEncoder(hint_channels, config.levels[0].channels)
        self.down = copied.down
        self.mid = copied.mid
        self.zero = nn.ModuleList(zero(nn.Conv2d(width, width, 1)) for width in skip_widths(config))
        last = config.levels[-1].channels
        self.zero_mid = zero(nn.Conv2d(last, last, 1))

    def forward(
        self,
        x_t: Float[Tensor, "b c h w"],
        t: Shaped[Tensor, "b"] | Shaped[Tensor, ""],
        context: Float[Tensor, "b m d"],
        hint: Float[Tensor, "#b e h w"],
        pooled: Float[Tensor, "b p"] | None = None,
        micro: Float[Tensor, "b k"] | None = None,
    ) -> list[Tensor]:
        """One tensor for each skip of the U-Net, in the order in which it makes them, and one for its middle.

        `hint` is what `self.hint` made of an image: the same at every step, so it is computed once. The other arguments
        are the U-Net's. (The x_t of an inpainting model is the latent alone.)
        """
        time_emb = self.time_embedding(t.expand(x_t.shape[0]))
        if self.added_embedding is not None:
            time_emb = time_emb + self.added_embedding(pooled, micro)
        h = self.conv_in(x_t) + hint
        skips = [h]
        for level in self.down:
            h, level_skips = level(h, time_emb, context)
            skips += level_skips
        h = self.mid(h, time_emb, context)
        out = [conv(skip) for conv, skip in zip(self.zero, skips, strict=True)] + [self.zero_mid(h)]
        return [residual.mean((2, 3), keepdim=True) for residual in out] if self.pool else out


def zero(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution whose weight and bias start at zero."""
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def skip_widths(config: UNetConfig) -> list[int]:
    """The channels of each skip of a U-Net: of its first convolution, of each residual block, of each downsample."""
    last = len(config.levels) - 1
    widths = [config.levels[0].channels]
    for i, level in enumerate(config.levels):
        widths += [level.channels] * (config.res_per_level + (i < last))
    return widths
