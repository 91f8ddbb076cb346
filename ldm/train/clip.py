r"""Stage 2: CLIP. Captions and drawings find each other, and the text encoder learns what words look like."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldm.convert.folder import read_config, read_tokenizer, write_clip
from ldm.errors import LdmError
from ldm.text.clip import CLIP, contrastive_loss
from ldm.text.image import fit
from ldm.text.tokenizer import Tokenizer
from ldm.train.data import Pictures, random_indices
from ldm.train.loop import Recipe, mixed_precision, train


def clip_loss(
    clip: CLIP, tokenizer: Tokenizer, pictures: Pictures, batch: int, rng: np.random.Generator
) -> Float[Tensor, ""]:
    """One batch of pairs: every picture against every caption."""
    indices = random_indices(rng, len(pictures), batch)
    ids = tokenizer(pictures.captions(indices, rng))
    # Nothing looks ahead and the summary is read at the end mark: what pads beyond the longest text is wasted work.
    # (The end mark has the highest id, and argmax gives its first place.)
    ids = ids[:, : int(ids.argmax(dim=-1).max()) + 1]
    with mixed_precision():
        images, texts = clip.embed_image(fit(pictures.batch(indices), clip.image_size)), clip.embed_text(ids)
    return contrastive_loss(images.float(), texts.float(), clip.logit_scale)


@torch.no_grad()
def retrieval(
    clip: CLIP, tokenizer: Tokenizer, pictures: Pictures, batch: int = 64, batches: int = 16
) -> float:
    """How often a picture, among `batch` full captions, finds one that describes it; by chance, about 1 / batch.

    Taken over the first batch x batches pictures. Two of one batch may show the same scene, and then either's
    caption is right.
    """
    hits = 0
    for i in range(batches):
        indices = np.arange(i * batch, (i + 1) * batch)
        ids = tokenizer(pictures.captions(indices, np.random.default_rng([1, i]), partial=False))
        found = clip.similarity(fit(pictures.batch(indices), clip.image_size), ids).argmax(dim=-1).tolist()
        hits += sum(pictures.scenes[indices[j]] == pictures.scenes[k] for j, k in zip(found, indices))
    return hits / (batch * batches)


def train_clip(
    folder: Path, run: Path, pictures: Pictures, held_out: Pictures, recipe: Recipe, seed: int, resume: bool
) -> dict[str, float]:
    """Train CLIP from nothing; write it to the model's `folder`. Returns what it reached."""
    config = read_config(folder)
    if config.image is None or config.embedding_width is None:
        raise LdmError(
            "the config has no image encoder to train CLIP with; expected `image` and `embedding_width`"
        )
    # A random start, torch's own; CLIP's code starts its embeddings smaller (0.02).
    torch.manual_seed(seed)
    clip = CLIP(config.text, config.image, config.embedding_width)
    tokenizer = read_tokenizer(folder, config.text)

    def loss_at(step: int) -> Tensor:
        return clip_loss(clip, tokenizer, pictures, recipe.batch, np.random.default_rng([seed, step]))

    average = train(clip, loss_at, recipe, run, resume)
    write_clip(folder, average)
    return {
        "retrieval among 64, seen combinations": retrieval(average, tokenizer, pictures),
        "retrieval among 64, held-out combinations": retrieval(average, tokenizer, held_out),
    }
