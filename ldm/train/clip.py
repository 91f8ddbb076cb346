r"""Stage 2: CLIP. Captions and drawings find each other, and the text encoder learns what words look like."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldm.convert.folder import read_config, read_tokenizer, write_clip
from ldm.errors import LdmError
from ldm.pixels import to_images
from ldm.text.clip import CLIP, contrastive_loss
from ldm.text.image import fit
from ldm.text.tokenizer import Tokenizer
from ldm.train.checkpoint import Identity, fingerprint
from ldm.train.data import Pictures, random_indices
from ldm.train.loop import Recipe, full_precision, mixed_precision, train
from ldm.train.plot import plot_similarity
from ldm.train.processes import device, gather, mine, rank


def clip_loss(
    clip: CLIP, tokenizer: Tokenizer, pictures: Pictures, batch: int, rng: np.random.Generator
) -> Float[Tensor, ""]:
    """One batch of pairs: every picture against every caption, those of the other processes included."""
    indices = random_indices(rng, len(pictures), batch)
    captions, share = pictures.captions(indices, rng), mine(batch)
    ids = tokenizer(captions[share])
    # Nothing looks ahead and the summary is read at the end mark: what pads beyond the longest text is wasted work.
    # (The end mark has the highest id, and argmax gives its first place.)
    ids = ids[:, : int(ids.argmax(dim=-1).max()) + 1].to(device())
    with mixed_precision():
        images = clip.embed_image(fit(pictures.batch(indices[share]), clip.image_size))
        texts = clip.embed_text(ids)
    return contrastive_loss(gather(full_precision(images)), gather(full_precision(texts)), clip.logit_scale)


@torch.no_grad()
def retrieval(
    clip: CLIP, tokenizer: Tokenizer, pictures: Pictures, batch: int = 64, batches: int = 16
) -> float:
    """How often a picture, among `batch` full captions, finds one that describes it; by chance, about 1 / batch.

    Taken over the first batch x batches pictures, or as many as there are. Two of one batch may show the same, and then
    either's caption is right.
    """
    batch = min(batch, len(pictures))
    batches = min(batches, len(pictures) // batch)
    hits = 0
    for i in range(batches):
        indices = np.arange(i * batch, (i + 1) * batch)
        captions = pictures.captions(indices, np.random.default_rng([1, i]), partial=False)
        pixels, ids = fit(pictures.batch(indices), clip.image_size), tokenizer(captions).to(device())
        found = clip.similarity(pixels, ids).argmax(dim=-1).tolist()
        hits += sum(pictures.same(int(indices[j]), int(indices[k])) for k, j in enumerate(found))
    return hits / (batch * batches)


@torch.no_grad()
def show_similarity(clip: CLIP, tokenizer: Tokenizer, pictures: Pictures, path: Path) -> None:
    """The cosines of the first eight pictures and their captions, as a picture: only the diagonal should shine."""
    indices = np.arange(min(8, len(pictures)))
    captions = pictures.captions(indices, np.random.default_rng(1), partial=False)
    pixels, ids = pictures.batch(indices), tokenizer(captions).to(device())
    cosines = clip.similarity(fit(pixels, clip.image_size), ids)  # [picture, text]
    plot_similarity(to_images(pixels), captions, cosines.T, path)


def train_clip(
    folder: Path, run: Path, pictures: Pictures, held_out: Pictures, recipe: Recipe, seed: int, resume: bool
) -> dict[str, float]:
    """Train CLIP from nothing; write it to the model's `folder`. Returns what it reached (in process 0)."""
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

    def watch(average: CLIP, path: Path) -> None:
        show_similarity(average, tokenizer, held_out, path)

    identity: Identity = {
        "seed": seed,
        "pictures": pictures.identity,
        "config": fingerprint(config.text, config.image, config.embedding_width),
        "tokenizer": fingerprint(folder / "tokenizer/merges.txt"),
    }
    average = train(clip, loss_at, recipe, run, resume, identity=identity, watch=watch, unit="pair")
    if rank() > 0:
        return {}
    write_clip(folder, average)
    among = f"retrieval among {min(64, len(pictures))}"
    return {
        f"{among}, seen combinations": retrieval(average, tokenizer, pictures),
        f"retrieval among {min(64, len(held_out))}, held-out combinations": retrieval(
            average, tokenizer, held_out
        ),
    }
