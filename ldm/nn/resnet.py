r"""The residual block, downsampling and upsampling: the convolutional building blocks of the U-Net and the VAE.

A residual block adds a correction to its input, $x + f(x)$ (He et al. 2016), so that gradients can bypass $f$ on their
way to the first layer. (The original diffusion code also initialises the last convolution of each block to zero, so
that a deep stack starts as the identity. We keep torch's defaults, which train well here.)
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.errors import LdmError


class ResBlock(nn.Module):
    r"""GroupNorm, SiLU, 3x3 convolution, twice; the time embedding is added between the two.

    Diffusion's variant of the pre-activation block (He et al. 2016b; Ho et al. 2020, appendix B). Its
    GroupNorm computes statistics per image, unlike BatchNorm, so an image does not depend on the rest of its batch.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, groups: int, eps: float, time_width: int | None = None
    ):
        """`eps` is GroupNorm's: 1e-5 in the U-Net, 1e-6 in the VAE. `time_width=None`: no timestep (the VAE)."""
        super().__init__()
        self.norm_1 = nn.GroupNorm(groups, in_channels, eps=eps)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_proj = nn.Linear(time_width, out_channels) if time_width else None
        self.norm_2 = nn.GroupNorm(groups, out_channels, eps=eps)
        self.conv_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        # Where the number of channels changes, a 1x1 convolution brings the input to the new number before it is added.
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(
        self, x: Float[Tensor, "b c h w"], time_emb: Float[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b d h w"]:
        """Raises `LdmError` without a time embedding, if the block was built with a `time_width`."""
        h = self.conv_1(F.silu(self.norm_1(x)))
        if self.time_proj is not None:
            if time_emb is None:
                raise LdmError("this residual block was built with a time_width: it needs the time embedding")
            h = h + self.time_proj(F.silu(time_emb))[:, :, None, None]  # one value per channel
        h = self.conv_2(F.silu(self.norm_2(h)))
        return self.skip(x) + h


class Downsample(nn.Module):
    """Halve height and width with a 3x3 convolution of stride 2.

    `pad` is (left, right, top, bottom). The U-Net pads all four sides by one; the VAE's encoder pads only right
    and bottom, as the original autoencoder did. Weights trained with one do not work with the other: the output is
    shifted by one input pixel.
    """

    def __init__(self, channels: int, pad: tuple[int, int, int, int]):
        super().__init__()
        self.pad = pad
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(F.pad(x, self.pad))


class Upsample(nn.Module):
    """Double height and width: repeat each pixel (nearest neighbour), then apply a 3x3 convolution.

    (A transposed convolution would do both at once, but tends to leave checkerboard artefacts: Odena et al. 2016.)
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "b c h w"], size: tuple[int, int] | None = None
    ) -> Float[Tensor, "b c h2 w2"]:
        """`size`: the exact output (height, width), for odd sizes that doubling would miss by a pixel."""
        size = size or (2 * x.shape[-2], 2 * x.shape[-1])
        return self.conv(F.interpolate(x, size=size, mode="nearest"))
