r"""CLIP: one embedding space for texts and images.

Two encoders, trained together so that an image and its caption land close to each other on a sphere, and all other
pairs of the batch far apart. There is no other supervision. Stable Diffusion conditions on the output of this text
encoder.

Source: Radford et al. 2021, section 2.3 and figure 3.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.config import ImageConfig, TextConfig
from ldm.text.encoder import TextEncoder, pool
from ldm.text.image import ImageEncoder

# Cap on the inverse temperature, which starts at 1 / 0.07 (Radford et al. 2021, section 2.5).
MAX_SCALE = 100.0


def contrastive_loss(
    images: Float[Tensor, "b d"],
    texts: Float[Tensor, "b d"],
    logit_scale: Float[Tensor, ""],
    wrong_texts: Float[Tensor, "k d"] | None = None,
) -> Float[Tensor, ""]:
    r"""Which text belongs to image i, and which image to text i? The mean of both cross-entropies:

    $$L = -\frac{1}{2b} \sum_i \left[ \log \frac{e^{s\,u_i \cdot v_i}}{\sum_j e^{s\,u_i \cdot v_j}}
                                   + \log \frac{e^{s\,u_i \cdot v_i}}{\sum_j e^{s\,u_j \cdot v_i}} \right]$$

    for unit vectors $u_i$ (images) and $v_i$ (texts) and the inverse temperature $s = e^{\mathtt{logit\_scale}}$, which
    is learned and at most 100. Guessing gives a loss of $\log b$. Source: Radford et al. 2021, figure 3.

    `wrong_texts` belong to no image: each image must choose its own text from among them as well (the sum over j then
    has b + k terms for an image). If they differ from the true texts in no more than, say, two exchanged colours, the
    text encoder must learn which word belongs to which; else it may read a text as a bag of words. Source: Yuksekgonul
    et al. 2023, section 4 (hard negatives).
    """
    scale = logit_scale.exp().clamp(max=MAX_SCALE)
    choices = texts if wrong_texts is None else torch.cat([texts, wrong_texts])
    target = torch.arange(len(images), device=images.device)  # image i and text i belong together
    text_of_image = F.cross_entropy(scale * images @ choices.T, target)
    image_of_text = F.cross_entropy(scale * texts @ images.T, target)
    return (text_of_image + image_of_text) / 2


class CLIP(nn.Module):
    """The two encoders, their projections into the shared space, and the learned temperature."""

    def __init__(self, text: TextConfig, image: ImageConfig, embedding_width: int):
        super().__init__()
        self.text = TextEncoder(text)
        self.image = ImageEncoder(image)
        self.image_size = image.size
        self.text_projection = nn.Linear(text.width, embedding_width, bias=False)
        self.image_projection = nn.Linear(image.width, embedding_width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embed_text(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        """Unit vectors in the shared space, one per text."""
        return F.normalize(self.text_projection(pool(self.text(ids), ids)), dim=-1)

    def embed_image(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """Unit vectors in the shared space, one per image (standardised pixels, see `text/image.py`)."""
        return F.normalize(self.image_projection(self.image(pixels)), dim=-1)

    def similarity(self, pixels: Float[Tensor, "b 3 s s"], ids: Int[Tensor, "k n"]) -> Float[Tensor, "b k"]:
        """Cosine similarity, in [-1, 1], between every image and every text."""
        return self.embed_image(pixels) @ self.embed_text(ids).T

    def classify(self, pixels: Float[Tensor, "b 3 s s"], ids: Int[Tensor, "k n"]) -> Float[Tensor, "b k"]:
        """Zero-shot classification: the probability of each of k texts for each image; rows sum to one.

        The classes are texts ("a dog", "a cat", ...), so adding a class takes a sentence and no training.
        Source: Radford et al. 2021, section 3.1.
        """
        scale = self.logit_scale.exp().clamp(max=MAX_SCALE)
        return (scale * self.similarity(pixels, ids)).softmax(dim=-1)
