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
from jaxtyping import Float
from torch import Tensor

from ldm.evaluate.judge import QUESTIONS, answers
from ldm.postcards import SCENES, Scene, caption
from ldm.text.clip import CLIP
from ldm.text.image import fit
from ldm.text.tokenizer import Tokenizer

WORDINGS = 128  # captions whose embeddings make one class
SERIES = 901  # of those captions


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


def class_captions(question: str, choice: str, count: int = WORDINGS) -> list[str]:
    r"""Full captions, in both languages, of random scenes to which `choice` is the right answer.

    "none" and "nothing" have no words, in training as here: they are what a full caption leaves unsaid.
    """
    rng = np.random.default_rng(SERIES)
    scenes = [scene for scene in SCENES if answers(scene).get(question) == choice]
    return [caption(scenes[rng.integers(len(scenes))], rng, partial=False) for _ in range(count)]


def class_directions(
    clip: CLIP, tokenizer: Tokenizer, question: str, count: int = WORDINGS
) -> Float[Tensor, "k d"]:
    r"""A classifier made of words: for each choice the mean direction of many captions,

    $$w_k = \sum_j v_{kj} \,/\, \lVert \sum_j v_{kj} \rVert,$$

    in which all that they do not share averages out ("prompt ensembling"). Source: Radford et al. 2021, section 3.1.4.
    """
    texts = [class_captions(question, choice, count) for choice in QUESTIONS[question]]
    sums = [embed_captions(clip, tokenizer, some).sum(dim=0) for some in texts]
    return F.normalize(torch.stack(sums), dim=-1)


def zero_shot(
    pictures: Float[Tensor, "n d"], scenes: Sequence[Scene], classes: dict[str, Float[Tensor, "_ d"]]
) -> dict[str, float]:
    r"""For each question the share of pictures that lie nearest to the right class.

    `classes` has the directions of each question's choices; asked are the pictures for which it makes sense.
    """
    shares = {}
    for question, directions in classes.items():
        nearest = (pictures @ directions.T).argmax(dim=1).tolist()
        told = [QUESTIONS[question][i] for i in nearest]
        right = [answers(scene).get(question) for scene in scenes]
        asked = [given == wanted for given, wanted in zip(told, right) if wanted is not None]
        if asked:
            shares[question] = sum(asked) / len(asked)
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
