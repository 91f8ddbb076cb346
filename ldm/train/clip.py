r"""Stage 2: CLIP. It learns to match images with their captions, so its text encoder learns what words look like.

The text encoder learns on with the U-Net (`diffusion.py`), and the image encoder falls behind. Stage 5 brings it up:
CLIP is trained again, and its text encoder stays as it is.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldm.checkpoints.folder import read_clip, read_config, read_tokenizer, write_clip
from ldm.errors import LdmError
from ldm.images.pixels import to_images
from ldm.text.clip import CLIP, contrastive_loss
from ldm.text.image import preprocess_pixels
from ldm.text.tokenizer import Tokenizer
from ldm.train.checkpoint import Identity, fingerprint
from ldm.train.data import CaptionedImages
from ldm.train.loop import Recipe, full_precision, mixed_precision, train
from ldm.train.plot import plot_similarity
from ldm.train.processes import all_gather, device, rank, slice_for_rank


def clip_loss(
    clip: CLIP, tokenizer: Tokenizer, images: CaptionedImages, batch: int, rng: np.random.Generator
) -> Float[Tensor, ""]:
    """The contrastive loss of one batch: every image against every caption, across all processes.

    Images of scenes are also compared with as many captions that are nearly right (`wrong_caption`).
    """
    indices = rng.integers(len(images), size=batch)
    captions, wrong_captions = images.captions(indices, rng), images.wrong_captions(indices, rng)
    rank_slice = slice_for_rank(batch)
    ids = tokenizer(captions[rank_slice] + wrong_captions[rank_slice])
    # Attention is causal and the text embedding is read at the end token, so padding after the longest text has no
    # effect and is cut off. (The end token has the highest id, so argmax finds its first position.)
    ids = ids[:, : int(ids.argmax(dim=-1).max()) + 1].to(device())
    with mixed_precision():
        image_embeddings = clip.embed_image(
            preprocess_pixels(images.batch(indices[rank_slice]), clip.image_size)
        )
        text_embeddings = clip.embed_text(ids)
    u, v = full_precision(image_embeddings), full_precision(text_embeddings)
    right, wrong = v[: len(u)], v[len(u) :]
    return contrastive_loss(all_gather(u), all_gather(right), clip.logit_scale, all_gather(wrong))


@torch.no_grad()
def retrieval_accuracy(
    clip: CLIP, tokenizer: Tokenizer, images: CaptionedImages, batch: int = 64, batches: int = 16
) -> float:
    """How often an image is most similar, among `batch` full captions, to one that describes it; chance is 1 / batch.

    Measured on the first batch x batches images, or on as many as there are. If two images of a batch show the same
    things, the caption of either counts as correct.
    """
    batch = min(batch, len(images))
    batches = min(batches, len(images) // batch)
    hits = 0
    for i in range(batches):
        indices = np.arange(i * batch, (i + 1) * batch)
        captions = images.captions(indices, np.random.default_rng([1, i]), partial=False)
        pixels, ids = (
            preprocess_pixels(images.batch(indices), clip.image_size),
            tokenizer(captions).to(device()),
        )
        found = clip.similarity(pixels, ids).argmax(dim=-1).tolist()
        scenes = [images.scenes[j] for j in indices.tolist()]
        scenes = [s if isinstance(s, str) else s.content for s in scenes]
        hits += sum(scenes[j] == scenes[k] for k, j in enumerate(found))
    return hits / (batch * batches)


@torch.no_grad()
def preference(clip: CLIP, tokenizer: Tokenizer, images: CaptionedImages, count: int = 1024) -> float:
    """How often an image of a scene is more similar to its full caption than to one that is nearly right.

    Chance is 0.5. A text encoder that ignores the order of words cannot tell "a red hat and a blue scarf" from "a blue
    hat and a red scarf". Measured on the first `count` images; neither caption has typing mistakes, which would tell.
    """
    count, hits = min(count, len(images)), 0
    for i in range(0, count, 64):
        indices, rng = np.arange(i, min(i + 64, count)), np.random.default_rng([2, i])
        right = images.captions(indices, rng, partial=False)
        embeddings = clip.embed_image(preprocess_pixels(images.batch(indices), clip.image_size))
        scores = [
            (embeddings * clip.embed_text(tokenizer(texts).to(device()))).sum(dim=-1)
            for texts in (right, images.wrong_captions(indices, rng, mistakes=False))
        ]
        hits += int((scores[0] > scores[1]).sum())
    return hits / count


@torch.no_grad()
def save_similarity(clip: CLIP, tokenizer: Tokenizer, images: CaptionedImages, path: Path) -> None:
    """Plot the cosine similarities of the first eight images and captions: only the diagonal should be bright."""
    indices = np.arange(min(8, len(images)))
    captions = images.captions(indices, np.random.default_rng(1), partial=False)
    pixels, ids = images.batch(indices), tokenizer(captions).to(device())
    cosines = clip.similarity(preprocess_pixels(pixels, clip.image_size), ids)  # [image, text]
    plot_similarity(to_images(pixels), captions, cosines.T, path)


def train_clip(
    folder: Path,
    run: Path,
    images: CaptionedImages,
    held_out: CaptionedImages,
    recipe: Recipe,
    seed: int,
    resume: bool,
    start_from: Path | None = None,
    freeze_text: bool = False,
) -> dict[str, float]:
    """Train CLIP and write it to the model's `folder`. Returns its metrics (in process 0).

    It begins with random weights, or with those of the model in the folder `start_from`. With `freeze_text`, it begins
    with its own, and all but the text encoder learns: a U-Net that was trained with that stays valid. (Zhai et al. 2022
    freeze the other half.)
    """
    start_from = folder if freeze_text else start_from
    # Stage 5 replaces its own clip.safetensors, and leaves the text encoder alone.
    weights = "text.safetensors" if freeze_text else "clip.safetensors"
    config = read_config(folder)
    if config.image is None or config.embedding_width is None:
        raise LdmError(
            "the config has no image encoder, which CLIP needs; expected `image` and `embedding_width`"
        )
    # torch's default initialisation; CLIP's own code initialises the embeddings smaller (0.02).
    torch.manual_seed(seed)
    clip = CLIP(config.text, config.image, config.embedding_width)
    if start_from is not None:
        clip.load_state_dict(read_clip(start_from, torch.get_default_dtype())[0].state_dict())
    if freeze_text:
        clip.text.requires_grad_(False)
    tokenizer = read_tokenizer(folder, config.text)

    def loss_at(step: int) -> Tensor:
        return clip_loss(clip, tokenizer, images, recipe.batch, np.random.default_rng([seed, step]))

    def write_samples(average: CLIP, path: Path) -> None:
        save_similarity(average, tokenizer, held_out, path)

    identity: Identity = {
        "seed": seed,
        "pictures": images.identity,
        "config": fingerprint(config.text, config.image, config.embedding_width),
        "tokenizer": fingerprint(folder / "tokenizer/merges.txt"),
        # (Stage 5 replaces its own clip.safetensors, and leaves the text encoder alone.)
        "start": "" if start_from is None else fingerprint(start_from / weights),
        "freeze_text": freeze_text,
    }
    average = train(
        clip, loss_at, recipe, run, resume, identity=identity, on_checkpoint=write_samples, unit="pair"
    )
    if rank() > 0:
        return {}
    write_clip(folder, average)
    metrics = {}
    for name, some in (("seen", images), ("held-out", held_out)):
        among = f"retrieval among {min(64, len(some))}, {name} combinations"
        metrics[among] = retrieval_accuracy(average, tokenizer, some)
        if not isinstance(some.scenes[0], str):
            preferred = f"preferred to a nearly right caption, {name} combinations"
            metrics[preferred] = preference(average, tokenizer, some)
    return metrics
