r"""CLIP score: how well does the image fit its prompt, according to CLIP?

How it can mislead you: it is a cosine without a natural unit (a wrong prompt does not score 0: compare with shuffled
prompts and with drawings); and our model is conditioned on the text encoder of this very CLIP, so the metric is not
independent. The judge (`judge.py`) is.
"""

from jaxtyping import Float
from torch import Tensor

WEIGHT = 2.5  # Hessel et al. 2021 scale the scores to about [0, 1]


def clip_score(images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"]) -> Float[Tensor, "b"]:
    r"""$2.5 \max(\cos(u, v), 0)$ for unit embeddings of images and of their texts (Hessel et al. 2021, section 3)."""
    return WEIGHT * (images * texts).sum(dim=1).clamp(min=0)
