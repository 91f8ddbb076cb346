r"""A tiny VAE: the same latents, encoded and decoded approximately and far faster (TAESD).

Stable Diffusion's decoder takes three times as many multiplications as one evaluation of its U-Net: too many for a
look at every step. But what it computes can be learned: a small network is trained until it gives the decoder's pixels
for the same latents. What is lost is detail of the size of a few pixels. Encoder and decoder have 1.2 million
parameters each, where Stable Diffusion's have 34 and 49 million, and this decoder takes 18 times fewer multiplications.

There is no attention and no GroupNorm, only 3x3 convolutions of 64 channels and ReLU. A block of three convolutions
$c_i$ adds to its input and cuts off what is negative:

$$y = \mathrm{ReLU}\bigl(x + c_3(\mathrm{ReLU}(c_2(\mathrm{ReLU}(c_1(x)))))\bigr)$$

Nothing here is normalised, so one wild number in a latent would spread over the image. The decoder therefore bends all
of them into (-3, 3) first; small ones hardly change:

$$z' = 3 \tanh\frac{z}{3}$$

It was trained on latents as the U-Net has them, so there is no scale to divide by, and on pixels in [0, 1].

Source: Bohan 2023 (TAESD; there is no paper).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.errors import LdmError
from ldm.vae.vae import VAE

WIDTH = 64  # channels of every layer
ENCODER_BLOCKS, DECODER_BLOCKS = (1, 3, 3, 3), (3, 3, 3, 1)  # at each resolution, in the order of running
NO_VARIANCE = -30.0  # its logarithm: the smallest that `VAE.encode` returns


def conv(in_channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)


class TinyBlock(nn.Module):
    """Three convolutions around a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1, self.conv_2, self.conv_3 = (conv(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.relu(x + self.conv_3(F.relu(self.conv_2(F.relu(self.conv_1(x))))))


def blocks(counts: tuple[int, ...]) -> nn.ModuleList:
    """The blocks of each resolution."""
    return nn.ModuleList(nn.Sequential(*(TinyBlock() for _ in range(count))) for count in counts)


def resizing(stride: int = 1) -> nn.ModuleList:
    """The convolution between each two resolutions; they have no bias."""
    return nn.ModuleList(conv(WIDTH, WIDTH, stride, bias=False) for _ in ENCODER_BLOCKS[1:])


class TinyEncoder(nn.Module):
    """From pixels [b, 3, H, W] in [-1, 1] to scaled latents [b, z, H / 8, W / 8]."""

    def __init__(self, latent_channels: int = 4):
        super().__init__()
        self.conv_in = conv(3, WIDTH)
        self.res = blocks(ENCODER_BLOCKS)
        self.down = resizing(stride=2)
        self.conv_out = conv(WIDTH, latent_channels)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b z h2 w2"]:
        h = self.res[0](self.conv_in((pixels + 1) / 2))  # pixels in [0, 1]
        for down, res in zip(self.down, self.res[1:], strict=True):
            h = res(down(h))
        return self.conv_out(h)


class TinyDecoder(nn.Module):
    """From scaled latents [b, z, h, w] to pixels [b, 3, 8 h, 8 w], in [-1, 1] apart from overshoot."""

    def __init__(self, latent_channels: int = 4):
        super().__init__()
        self.conv_in = conv(latent_channels, WIDTH)
        self.res = blocks(DECODER_BLOCKS)
        self.up = resizing()
        self.conv_out = conv(WIDTH, 3)

    def forward(self, latent: Float[Tensor, "b z h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        return self.enlarge(self.middle(latent))

    def middle(self, latent: Float[Tensor, "b z h w"]) -> Float[Tensor, "b z h w"]:
        """What no tile can do without the others, in `Decoder` (`ldm.vae.tiles`); here there is no such thing.

        Raises `LdmError` for a wrong number of channels.
        """
        expected = self.conv_in.in_channels
        if latent.shape[1] != expected:
            raise LdmError(f"a latent of {latent.shape[1]} channels; this tiny VAE decodes {expected}")
        return 3 * torch.tanh(latent / 3)

    def enlarge(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """All convolutions."""
        h = F.relu(self.conv_in(z))
        for res, up in zip(self.res[:-1], self.up, strict=True):
            h = up(F.interpolate(res(h), scale_factor=2, mode="nearest"))
        return 2 * self.conv_out(self.res[-1](h)) - 1  # from [0, 1]


class TinyVAE(VAE):
    """A `VAE` to all that encode and decode with one: the same methods, the same ranges, and 8 pixels per position.

    Files often hold the decoder alone, which is all that generating from text needs.
    """

    encoder: TinyEncoder | None  # type: ignore[assignment]
    decoder: TinyDecoder  # type: ignore[assignment]

    def __init__(self, latent_channels: int = 4, encodes: bool = True):
        nn.Module.__init__(self)
        self.scale = 1.0
        self.factor = 2 ** (len(DECODER_BLOCKS) - 1)
        self.encoder = TinyEncoder(latent_channels) if encodes else None
        self.decoder = TinyDecoder(latent_channels)

    def encode(
        self, pixels: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b z h2 w2"], Float[Tensor, "b z h2 w2"]]:
        """From pixels in [-1, 1] to latents: a point, so the log-variance is next to none. Raises `LdmError`."""
        if self.encoder is None:
            raise LdmError(
                "this tiny VAE has no encoder, so no image can be encoded; take its encoder's file too"
            )
        mean = self.encoder(self.to_own_dtype(pixels))
        return mean, torch.full_like(mean, NO_VARIANCE)
