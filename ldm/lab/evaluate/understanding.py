r"""Understanding: what CLIP knows of pictures and words, without ever having been told the attributes.

Zero-shot classification asks which of several texts fits a picture best; retrieval asks which of 256 captions does; and
the similarity grid shows all pairs of a few pictures and captions at once: the matching pairs bright, the others dark.

How it can fool you: a classifier made of texts is as good as the texts (Radford et al. 2021 gain 3.5 points by wording
alone), and retrieval is as hard as the other captions are similar: among 256 random ones, few differ in one word only.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ldm.lab.evaluate.judge import QUESTIONS, answers
from ldm.postcards import SCENES, Scene, caption
from ldm.text.clip import CLIP
from ldm.text.image import fit
from ldm.text.tokenizer import Tokenizer

WORDINGS = 8  # captions whose embeddings make one scene's direction
SERIES = 901  # of those captions
# No caption says how many there are.
ASKED = {question: choices for question, choices in QUESTIONS.items() if question != "count"}


@torch.no_grad()
def embed_pictures(clip: CLIP, pixels: Float[Tensor, "n 3 h w"], batch: int = 100) -> Float[Tensor, "n d"]:
    r"""Unit vectors in CLIP's space of square pictures in [-1, 1], whatever their size."""
    device = clip.logit_scale.device
    return torch.cat(
        [clip.embed_image(fit(part.to(device), clip.image_size)) for part in pixels.split(batch)]
    )


@torch.no_grad()
def embed_captions(
    clip: CLIP, tokenizer: Tokenizer, texts: Sequence[str], batch: int = 256
) -> Float[Tensor, "n d"]:
    r"""Unit vectors in CLIP's space."""
    device = clip.logit_scale.device
    parts = [tokenizer(list(texts[i : i + batch])).to(device) for i in range(0, len(texts), batch)]
    return torch.cat([clip.embed_text(ids) for ids in parts])


def scene_captions(scene: Scene, count: int = WORDINGS) -> list[str]:
    r"""Full captions of the scene, in both languages. What it has not, "none" or "nothing", they leave unsaid."""
    rng = np.random.default_rng(SERIES)
    return [caption(scene, rng, partial=False) for _ in range(count)]


def scene_directions(
    clip: CLIP, tokenizer: Tokenizer, scenes: Sequence[Scene] = SCENES, count: int = WORDINGS
) -> Float[Tensor, "k d"]:
    r"""A classifier made of words: for each scene the mean direction of `count` captions,

    $$w_k = \sum_j v_{kj} \,/\, \lVert \sum_j v_{kj} \rVert,$$

    in which what is the wording's and not the scene's averages out ("prompt ensembling"). Source: Radford et al. 2021,
    section 3.1.4.
    """
    texts = [text for scene in scenes for text in scene_captions(scene, count)]
    embedded = rearrange(embed_captions(clip, tokenizer, texts), "(k j) d -> k j d", j=count)
    return F.normalize(embedded.sum(dim=1), dim=-1)


def zero_shot(
    pictures: Float[Tensor, "n d"],
    scenes: Sequence[Scene],
    directions: Float[Tensor, "k d"],
    scale: float,
    candidates: Sequence[Scene] = SCENES,
) -> dict[str, float]:
    r"""For each question the share of `pictures`, which show `scenes`, that get the right answer from words alone.

    CLIP's own probability of a candidate scene, given a picture, is a softmax of the cosines with the candidates'
    `directions` (times `scale`, its learned inverse temperature); an answer is as probable as all scenes together to
    which it is right, whatever else they show. (One direction for all lakes, and one for all boats, would do less
    well: boats are seen on water only, so a lake is much like one.) Asked are the pictures for which it makes sense.
    """
    probability = torch.softmax(scale * pictures @ directions.T, dim=-1)
    shares = {}
    for question, choices in ASKED.items():
        right = [answers(scene).get(question) for scene in candidates]
        belongs = torch.tensor([[answer == choice for choice in choices] for answer in right]).to(probability)
        told = [choices[i] for i in (probability @ belongs).argmax(dim=1).tolist()]
        wanted = [answers(scene).get(question) for scene in scenes]
        hits = [given == answer for given, answer in zip(told, wanted) if answer is not None]
        if hits:
            shares[question] = sum(hits) / len(hits)
    return shares


def retrieval(
    pictures: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], scenes: Sequence[Scene], among: int = 256
) -> float:
    r"""How often a picture finds a caption that describes it, among those of `among` pictures (or all, if fewer).

    Two of them may show the same scene, and then either's caption is right. By chance: about 1 / among. Pictures that
    do not fill a last group are left out.
    """
    among = min(among, len(scenes))
    whole = len(scenes) // among * among
    hits = 0
    for start in range(0, whole, among):
        group = scenes[start : start + among]
        found = (pictures[start : start + among] @ texts[start : start + among].T).argmax(dim=1).tolist()
        hits += sum(group[j] == group[i] for i, j in enumerate(found))
    return hits / whole
