r"""Understanding: what CLIP has learned about images and words without ever being given the attributes.

Zero-shot classification finds the text that fits an image best among several; retrieval finds its caption among 256;
and the similarity plot shows all pairs of a few images and captions.

How it can mislead you: a classifier made of texts is as good as the texts (Radford et al. 2021 gain 3.5 points by
prompt engineering alone), and retrieval is only as hard as the captions are similar: among 256 random ones, few differ
in one word only.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ldm.postcards import QUESTIONS, Scene, caption, labels, sample_scene
from ldm.text.clip import CLIP
from ldm.text.image import preprocess_pixels
from ldm.text.tokenizer import Tokenizer

WORDINGS = 8  # captions for the embedding of one scene
SERIES = 901  # of those captions
CANDIDATES = 2000  # random scenes that a zero-shot classifier chooses from
# What captions mention often enough.
ASKED = ("place", "relief", "time", "weather", "style", "wall", "waterfall", "boat", "house", "balloon", "flower",
         "animals", "first animal", "first fur")  # fmt: skip
ZERO_SHOT_QUESTIONS = {question: QUESTIONS[question] for question in ASKED}


@torch.no_grad()
def embed_images(clip: CLIP, pixels: Float[Tensor, "n 3 h w"], batch: int = 100) -> Float[Tensor, "n d"]:
    r"""CLIP's unit embeddings of square images in [-1, 1] of any size."""
    device = clip.logit_scale.device
    return torch.cat(
        [
            clip.embed_image(preprocess_pixels(part.to(device), clip.image_size))
            for part in pixels.split(batch)
        ]
    )


@torch.no_grad()
def embed_captions(
    clip: CLIP, tokenizer: Tokenizer, texts: Sequence[str], batch: int = 256
) -> Float[Tensor, "n d"]:
    r"""CLIP's unit embeddings of texts."""
    device = clip.logit_scale.device
    parts = [tokenizer(list(texts[i : i + batch])).to(device) for i in range(0, len(texts), batch)]
    return torch.cat([clip.embed_text(ids) for ids in parts])


def candidate_scenes(count: int = CANDIDATES) -> list[Scene]:
    r"""Random scenes, half of them held-out combinations."""
    rng = np.random.default_rng(SERIES)
    return [sample_scene(rng, ("train", "held_out")[i % 2]) for i in range(count)]


def scene_captions(scene: Scene, count: int = WORDINGS) -> list[str]:
    r"""Full captions of the scene in both languages, without typing mistakes."""
    rng = np.random.default_rng(SERIES)
    return [caption(scene, rng, partial=False, mistakes=False) for _ in range(count)]


def scene_directions(
    clip: CLIP, tokenizer: Tokenizer, scenes: Sequence[Scene], count: int = WORDINGS
) -> Float[Tensor, "k d"]:
    r"""The weights of a zero-shot classifier: for each scene the normalised sum of the embeddings of `count` captions,

    $$w_k = \sum_j v_{kj} \,/\, \lVert \sum_j v_{kj} \rVert,$$

    which averages out the wording ("prompt ensembling"). Source: Radford et al. 2021, section 3.1.4.
    """
    texts = [text for scene in scenes for text in scene_captions(scene, count)]
    embedded = rearrange(embed_captions(clip, tokenizer, texts), "(k j) d -> k j d", j=count)
    return F.normalize(embedded.sum(dim=1), dim=-1)


def zero_shot(
    images: Float[Tensor, "n d"],
    scenes: Sequence[Scene],
    directions: Float[Tensor, "k d"],
    scale: float,
    candidates: Sequence[Scene],
) -> dict[str, float]:
    r"""For each question, the zero-shot accuracy on images (their embeddings) of `scenes` to which it applies.

    The probability of a candidate scene given an image is a softmax of the cosines with the candidates' `directions`,
    times `scale`, CLIP's learned inverse temperature. The probability of an answer is the sum over all scenes for which
    it is correct. (One direction for all lakes and one for all boats would be less accurate: boats appear only on
    water, so these directions are similar.)
    """
    probability = torch.softmax(scale * images @ directions.T, dim=-1)
    shares = {}
    for question, choices in ZERO_SHOT_QUESTIONS.items():
        of_candidates = [labels(scene).get(question) for scene in candidates]
        one_hot = torch.tensor([[a == choice for choice in choices] for a in of_candidates]).to(probability)
        predicted = [choices[i] for i in (probability @ one_hot).argmax(dim=1).tolist()]
        correct = [labels(scene).get(question) for scene in scenes]
        hits = [answer == right for answer, right in zip(predicted, correct) if right is not None]
        if hits:
            shares[question] = sum(hits) / len(hits)
    return shares


def retrieval(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], scenes: Sequence[Scene], among: int = 256
) -> float:
    r"""How often an image retrieves a caption that describes it among those of `among` images (or all, if fewer).

    If several images show the same things, each of their captions is correct. Chance level is about 1 / among. A last,
    incomplete group is left out.
    """
    among = min(among, len(scenes))
    whole = len(scenes) // among * among
    hits = 0
    for start in range(0, whole, among):
        group = scenes[start : start + among]
        found = (images[start : start + among] @ texts[start : start + among].T).argmax(dim=1).tolist()
        hits += sum(group[j].content == group[i].content for i, j in enumerate(found))
    return hits / whole
