"""`ldm generate --preview DIR`: the image at each step, as SEED-STEP.png (`ldm.previews`)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torch import Tensor

from ldm.errors import LdmError
from ldm.files.read_write import atomic_path, writable
from ldm.images.metadata import Record
from ldm.images.pixels import to_images
from ldm.loading import load_vae
from ldm.pipeline import LatentDiffusion, Progress
from ldm.previews import previews
from ldm.vae.tiles import must_tile

# What it makes of a group's record and of a progress bar.
Wrap = Callable[[Record, Progress], Progress]


def make_preview(options: argparse.Namespace, model: LatentDiffusion) -> Wrap:
    """Previews as the options ask for them; without `--preview`, a progress bar stays what it is."""
    folder: Path | None = options.preview
    if folder is None:
        return lambda record, progress: progress
    other = options.preview_vae and load_vae(options.preview_vae, model.dtype, model.device)
    if other is not None and other.factor != model.vae.factor:
        raise LdmError(
            f"{options.preview_vae} makes {other.factor} pixels along a side of each position of a latent, and this "
            f"model's VAE makes {model.vae.factor}; take one that was made for this model"
        )

    def decode(x0: Tensor) -> list[Image.Image]:
        if other is not None:
            return to_images(other.decode(x0))
        size = (x0.shape[-1] * model.vae.factor, x0.shape[-2] * model.vae.factor)
        return model.decode(x0, must_tile(size, model.device))

    def wrap(record: Record, progress: Progress) -> Progress:
        first_seed = record.seed - record.group.index

        def save(step: int, images: list[Image.Image]) -> None:
            for i, image in enumerate(images):
                path = folder / f"{first_seed + i}-{step:03d}.png"
                with writable(path), atomic_path(path) as temporary:
                    image.save(temporary, format="PNG")

        return previews(decode, save, progress)

    return wrap
