r"""The images to train on: postcards, drawn once and kept in the run's folder (or one's own: `own.py`).

CaptionedImages are few and slow to draw, so they are kept; captions are many and quick to write, so each step writes
them afresh.
"""

import math
import multiprocessing
import os
import signal
from collections.abc import Sequence
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

import ldm.postcards
from ldm.errors import LdmError
from ldm.files import atomic_path, open_regular
from ldm.postcards import SUBJECTS, Scene, caption, postcard, sample_scene
from ldm.train.checkpoint import fingerprint
from ldm.train.processes import barrier, device, rank

CHUNK = 64  # images that a process draws before it is given more


@dataclass(frozen=True)
class CaptionedImages:
    """CaptionedImages and what they show: `scenes[i]` is the scene of `pixels[i]`, or simply its caption.

    `identity` tells these images from any others, for a checkpoint to remember.
    """

    scenes: Sequence[Scene | str]
    pixels: UInt8[np.ndarray, "n s s 3"]
    identity: str = ""

    def __len__(self) -> int:
        return len(self.scenes)

    def batch(self, indices: np.ndarray) -> Float[Tensor, "b 3 s s"]:
        """The images at `indices`, as pixels in [-1, 1], on the device that trains.

        They are laid out anew, channel after channel: left in the order of an image file, every layer would keep
        that order, and on a CPU GroupNorm's backward is slow in it.
        """
        pixels = torch.from_numpy(self.pixels[indices]).to(device())
        pixels = rearrange(pixels, "b h w c -> b c h w").contiguous()
        return pixels.to(torch.get_default_dtype()) / 127.5 - 1

    def captions(self, indices: np.ndarray, rng: np.random.Generator, partial: bool = True) -> list[str]:
        """A caption for each of the images at `indices`: a fresh one of a scene, or the one it came with."""
        scenes = [self.scenes[i] for i in indices]
        return [s if isinstance(s, str) else caption(s, rng, partial=partial) for s in scenes]

    def same(self, i: int, j: int) -> bool:
        """Whether images i and j show the same, so that either's caption describes both."""
        return self.scenes[i] == self.scenes[j]


def draw_postcards(
    folder: Path, split: str, count: int, size: int, seed: int = 0, subjects: Sequence[str] = SUBJECTS
) -> CaptionedImages:
    """The first `count` postcards of series `seed`, from the file in `folder` if they were drawn before.

    `subjects` are the places and animals that there are. The file is named after all that the drawings depend on, the
    drawing code included.
    """
    world = "" if set(subjects) == set(SUBJECTS) else "-".join(("", *sorted(subjects)))
    path = folder / f"{split}{world}-{count}-{size}-{seed}-{drawing_code()}.npy"
    if rank() == 0 and not path.exists():
        drawn = _draw_all(split, count, size, seed, subjects)
        with atomic_path(path) as temporary:
            np.save(temporary, drawn)
    barrier()
    scenes = [sample_scene(np.random.default_rng([seed, i]), split, subjects) for i in range(count)]
    return CaptionedImages(scenes, _read_drawn(path, (count, size, size, 3)), path.stem)


def _read_drawn(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "n s s 3"]:
    open_regular(path).close()
    try:
        drawn = np.load(path, mmap_mode="r")
        if drawn.shape != shape or drawn.dtype != np.uint8:
            raise ValueError(f"{drawn.dtype} of shape {drawn.shape}")
    except (OSError, ValueError, EOFError) as error:
        raise LdmError(f"{path} is damaged ({error}); delete it, and it is drawn again") from error
    return drawn


def drawing_code() -> str:
    """8 digits that change with the code that draws and describes the postcards."""
    sources = sorted(Path(str(ldm.postcards.__file__)).parent.glob("*.py"))
    return fingerprint(*sources)[:8]


def _draw_all(
    split: str, count: int, size: int, seed: int, subjects: Sequence[str]
) -> UInt8[np.ndarray, "n s s 3"]:
    """Draw on all cores."""
    drawn = np.empty((count, size, size, 3), dtype=np.uint8)
    draw_one = partial(_draw, seed=seed, size=size, split=split, subjects=tuple(subjects))
    workers = min(os.cpu_count() or 1, math.ceil(count / CHUNK))
    # "spawn": a fresh process, for a fork of one that runs torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    # Ctrl-C reaches all processes, and is left to this one.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(workers, context, initializer=signal.signal, initargs=ignore) as pool:
        drawings = pool.map(draw_one, range(count), chunksize=CHUNK)
        try:
            for i, drawing in enumerate(tqdm(drawings, total=count, desc=f"drawing ({split})", unit="image")):
                drawn[i] = drawing
        except BaseException:
            pool.shutdown(cancel_futures=True)  # or leaving the block waits for all that was asked for
            raise
    return drawn


def _draw(index: int, seed: int, size: int, split: str, subjects: Sequence[str]) -> np.ndarray:
    return np.asarray(postcard(index, seed, size, split, subjects=subjects).image)


def random_indices(rng: np.random.Generator, count: int, batch: int) -> np.ndarray:
    """`batch` indices below `count`, each as likely as any other."""
    return rng.integers(count, size=batch)


def random_noise(shape: Sequence[int], generator: torch.Generator, rank_slice: slice) -> Float[Tensor, "..."]:
    """Standard normal numbers for a batch of all processes, of which this one takes its `rank_slice`.

    They are drawn on the CPU, so that the same seed is the same noise on every device.
    """
    return torch.randn(tuple(shape), generator=generator)[rank_slice].to(device())
