r"""The pictures to train on: postcards, drawn once and kept in the run's folder.

Pictures are few and slow to draw, so they are kept; captions are many and quick to write, so each step writes
them afresh.
"""

import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from ldm.files import atomic_path
from ldm.postcards import Scene, caption, postcard, sample_scene

CHUNK = 64  # pictures that a process draws before it is given more


@dataclass(frozen=True)
class Pictures:
    """Drawings and what they show: `scenes[i]` is the scene of `pixels[i]`."""

    scenes: list[Scene]
    pixels: UInt8[np.ndarray, "n s s 3"]

    def __len__(self) -> int:
        return len(self.scenes)

    def batch(self, indices: np.ndarray) -> Float[Tensor, "b 3 s s"]:
        """The pictures at `indices`, as pixels in [-1, 1].

        They are laid out anew, channel after channel: left in the order of an image file, every layer would keep
        that order, and on a CPU GroupNorm's backward is slow in it.
        """
        pixels = rearrange(torch.from_numpy(self.pixels[indices]), "b h w c -> b c h w").contiguous()
        return pixels.float() / 127.5 - 1

    def captions(self, indices: np.ndarray, rng: np.random.Generator, partial: bool = True) -> list[str]:
        """A fresh caption for each of the pictures at `indices`."""
        return [caption(self.scenes[i], rng, partial=partial) for i in indices]


def draw_pictures(folder: Path, split: str, count: int, size: int, seed: int = 0) -> Pictures:
    """The first `count` postcards of series `seed`, from the file in `folder` if they were drawn before."""
    path = folder / f"{split}-{count}-{size}-{seed}.npy"
    if not path.exists():
        drawn = np.empty((count, size, size, 3), dtype=np.uint8)
        draw_one = partial(_draw, seed=seed, size=size, split=split)
        # "spawn": a fresh process, for a fork of one that runs torch's threads may hang.
        workers = min(os.cpu_count() or 1, math.ceil(count / CHUNK))
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            images = pool.map(draw_one, range(count), chunksize=CHUNK)
            for i, image in enumerate(tqdm(images, total=count, desc=f"drawing ({split})", unit="picture")):
                drawn[i] = image
        with atomic_path(path) as temporary:
            np.save(temporary, drawn)
    scenes = [sample_scene(np.random.default_rng([seed, i]), split) for i in range(count)]
    return Pictures(scenes, np.load(path, mmap_mode="r"))


def _draw(index: int, seed: int, size: int, split: str) -> np.ndarray:
    return np.asarray(postcard(index, seed, size, split).image)


def random_indices(rng: np.random.Generator, count: int, batch: int) -> np.ndarray:
    """`batch` indices below `count`, each as likely as any other."""
    return rng.integers(count, size=batch)
