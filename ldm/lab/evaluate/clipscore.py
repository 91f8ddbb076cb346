r"""CLIP score: does the picture fit its prompt, in the eyes of CLIP?

How it can fool you: it is a cosine, so it has no natural unit (a wrong prompt does not score 0: compare with shuffled
prompts and with drawings); and our painter listens to this very CLIP's text encoder, so it is judged by its own
teacher. The judge (`judge.py`) has no such ties.
"""

from jaxtyping import Float
from torch import Tensor

WEIGHT = 2.5  # Hessel et al. 2021 stretch the scores to about [0, 1]


def clip_score(images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"]) -> Float[Tensor, "b"]:
    r"""$2.5 \max(\cos(u, v), 0)$ for unit vectors of pictures and of their texts (Hessel et al. 2021, section 3)."""
    return WEIGHT * (images * texts).sum(dim=1).clamp(min=0)
