r"""A perceptual loss: two images are similar if a trained network extracts similar features from them.

In a pixel-wise loss, moving a whisker by one pixel costs as much as leaving it out, and blurring it is the safest
choice. In the feature space of a trained network the first is a small error and the second a large one.

Sources: Zhang et al. 2018 (LPIPS), section 3, whose network was trained on photographs; Rombach et al. 2022, appendix
G, for its use in the VAE. This project uses no pretrained network, so the features come from the model's own CLIP image
encoder, trained in the stage before.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ldm.text.image import ImageEncoder, standardise


def tiles(pixels: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "n 3 {size} {size}"]:
    """Cut images into adjacent squares of `size` pixels, dropping the remainder at the right and lower edges.

    The encoder takes small images. Downsampling to that size would remove the detail that this loss is meant to
    preserve, so the encoder processes tiles at full resolution.
    """
    height, width = (side - side % size for side in pixels.shape[-2:])
    return rearrange(pixels[:, :, :height, :width], "b c (y h) (x w) -> (b y x) c h w", h=size, w=size)


def perceptual_loss(
    encoder: ImageEncoder,
    pixels: Float[Tensor, "b 3 h w"],
    reconstructed: Float[Tensor, "b 3 h w"],
    size: int,
) -> Float[Tensor, ""]:
    r"""The squared distance between the normalised features of both images, averaged over tokens and layers:

    $$L_\mathrm{perceptual} = \frac1n \sum_{l=1}^{n} \mathbb E_i\,
      \lVert \hat f_{l,i}(x) - \hat f_{l,i}(\tilde x) \rVert^2$$

    for the features $\hat f_{l,i}$ of token i in layer l of n. It lies in [0, 4]. Source: Zhang et al. 2018, eq. 1,
    without its learned weights.
    """
    features = encoder.states(standardise(tiles(pixels, size)))
    features_of_reconstruction = encoder.states(standardise(tiles(reconstructed, size)))
    distances = [
        (F.normalize(a, dim=-1) - F.normalize(b, dim=-1)).square().sum(dim=-1).mean()
        for a, b in zip(features, features_of_reconstruction, strict=True)
    ]
    return torch.stack(distances).mean()
