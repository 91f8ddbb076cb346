r"""CLIP's image encoder: a vision transformer.

The image is cut into square patches, one linear map turns each patch into a token, and a learned "class" token is
prepended to collect what the image shows. The rest is the same transformer as for text, without the causal mask.

Source: Dosovitskiy et al. 2021, section 3.1; CLIP adds a norm before the first layer (Radford et al. 2021, section
2.4), and its released code has no bias in the patch embedding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ldm.config import ImageConfig
from ldm.images.pixels import to_pixels
from ldm.text.transformer import EncoderLayer, embedding

# Per-channel mean and standard deviation of CLIP's training images, whose pixels are in [0, 1].
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def preprocess(images: Sequence[Image.Image], size: int) -> Float[Tensor, "b 3 {size} {size}"]:
    """CLIP's preprocessing: the short side resized to `size` (bicubic), centre crop, standardised."""
    squares = []
    for image in images:
        short = min(image.size)
        width, height = (int(size * side / short) for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        squares.append(resized.crop((left, top, left + size, top + size)))
    return standardise(to_pixels(squares))


def preprocess_pixels(pixels: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 {size} {size}"]:
    """`preprocess` for images that are already tensors in [-1, 1]: centre crop, resized (bicubic), standardised.

    Images are usually larger than CLIP's input: 512 and 224 pixels for Stable Diffusion, 128 and 64 here.
    """
    height, width = pixels.shape[-2:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    pixels = pixels[..., top : top + short, left : left + short]
    if short != size:
        pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)
    return standardise(pixels)


def standardise(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Pixels in [-1, 1], standardised to zero mean and unit variance over CLIP's training images."""
    mean, std = (
        torch.tensor(x, dtype=pixels.dtype, device=pixels.device)[:, None, None] for x in (MEAN, STD)
    )
    return ((pixels + 1) / 2 - mean) / std


class ImageEncoder(nn.Module):
    """Patch embedding, transformer layers, and the class token's final state."""

    def __init__(self, config: ImageConfig):
        super().__init__()
        patches = (config.size // config.patch) ** 2
        # A convolution whose stride is its size is a linear map applied to each patch.
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch, stride=config.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(config.width) * config.width**-0.5)
        self.position_embedding = embedding(patches + 1, config.width)
        self.norm_in = nn.LayerNorm(config.width, eps=1e-5)
        self.layers = nn.ModuleList(
            EncoderLayer(config.width, config.heads, config.activation) for _ in range(config.layers)
        )
        self.norm_out = nn.LayerNorm(config.width, eps=1e-5)

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """`pixels` standardised, of the configured size. Returns one vector per image."""
        return self.norm_out(self.states(pixels)[-1][:, 0])

    def states(self, pixels: Float[Tensor, "b 3 s s"]) -> list[Float[Tensor, "b n d"]]:
        """The hidden states after each layer, the class token first; `forward` uses the last."""
        patches = rearrange(self.patch_embedding(pixels), "b d h w -> b (h w) d")
        cls = repeat(self.class_embedding, "d -> b 1 d", b=len(pixels))
        x = torch.cat([cls, patches], dim=1)
        x = self.norm_in(x + self.position_embedding.weight)
        states = []
        for layer in self.layers:
            x = layer(x)
            states.append(x)
        return states
