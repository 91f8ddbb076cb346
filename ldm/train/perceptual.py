r"""A perceptual loss: two images are alike if a network that understands images sees the same in both.

Pixel by pixel, a whisker moved by one pixel is as wrong as a whisker that is missing, and the safest answer is to
smear it. In the features of a trained network the first is a small error and the second a large one.

Sources: Zhang et al. 2018 (LPIPS), section 3, whose network was trained on photographs; Rombach et al. 2022, appendix
G, for its use in the VAE. No pretrained network is to be had here, so the features are those of this model's own
CLIP image encoder, trained in the stage before.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ldm.text.image import ImageEncoder, standardise


def tiles(pixels: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "n 3 {size} {size}"]:
    """The image cut into squares of `size`, side by side, what is left over dropped.

    The encoder looks at small images; a image reduced to that size would have lost the very detail that this
    loss is there for. So it looks at one part after the other, at full resolution.
    """
    height, width = (side - side % size for side in pixels.shape[-2:])
    return rearrange(pixels[:, :, :height, :width], "b c (y h) (x w) -> (b y x) c h w", h=size, w=size)


def perceptual_loss(
    encoder: ImageEncoder, pixels: Float[Tensor, "b 3 h w"], painted: Float[Tensor, "b 3 h w"], size: int
) -> Float[Tensor, ""]:
    r"""The squared distance between the unit-length features of both images, over all tokens and layers:

    $$L_\mathrm{perceptual} = \frac1n \sum_{l=1}^{n} \mathbb E_i\,
      \lVert \hat f_{l,i}(x) - \hat f_{l,i}(\tilde x) \rVert^2$$

    for the features $\hat f_{l,i}$ of token i in layer l of n. From 0 to 4. Source: Zhang et al. 2018, eq. 1, without
    its learned weights.
    """
    seen = encoder.states(standardise(tiles(pixels, size)))
    got = encoder.states(standardise(tiles(painted, size)))
    distances = [
        (F.normalize(a, dim=-1) - F.normalize(b, dim=-1)).square().sum(dim=-1).mean()
        for a, b in zip(seen, got, strict=True)
    ]
    return torch.stack(distances).mean()
