r"""The training images: postcards, drawn once and stored in the run's folder (for your own images, see `own.py`).

Images are slow to draw, so they are drawn once and stored. Captions are fast to generate, so each step samples new
ones.
"""

import inspect
import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from tqdm import tqdm

import ldm.postcards
from ldm.errors import LdmError
from ldm.files.read_write import atomic_path, open_regular
from ldm.postcards import SUBJECTS, Scene, caption, draw_with_boxes, postcard, sample_scene, wrong_caption
from ldm.train.checkpoint import fingerprint
from ldm.train.importance import importance
from ldm.train.processes import barrier, device, rank

CHUNK = 64  # images per task of a drawing process


@dataclass(frozen=True)
class CaptionedImages:
    """Images and their content: `scenes[i]` is the scene that `pixels[i]` shows, or simply its caption.

    `identity` distinguishes this set of images from all others; checkpoints store it. `importance` says how much each
    cell of an image's latent counts in the U-Net's loss (see `importance.py`); None if all count the same.
    """

    scenes: Sequence[Scene | str]
    pixels: UInt8[np.ndarray, "n s s 3"]
    identity: str = ""
    importance: Float[np.ndarray, "n h w"] | None = None

    def __len__(self) -> int:
        return len(self.scenes)

    def batch(self, indices: np.ndarray) -> Float[Tensor, "b 3 s s"]:
        """The images at `indices`, as pixels in [-1, 1], on the training device.

        They are copied to contiguous NCHW memory. Otherwise every layer would keep the channels-last strides of the
        image files, with which GroupNorm's backward pass is slow on a CPU.
        """
        pixels = torch.from_numpy(self.pixels[indices]).to(device())
        pixels = rearrange(pixels, "b h w c -> b c h w").contiguous()
        return pixels.to(torch.get_default_dtype()) / 127.5 - 1

    def captions(self, indices: np.ndarray, rng: np.random.Generator, partial: bool = True) -> list[str]:
        """A caption for each image at `indices`: newly sampled for a scene, or the one that the image came with.

        With `partial`, some leave things out and some have typing mistakes.
        """
        scenes = [self.scenes[i] for i in indices]
        return [s if isinstance(s, str) else caption(s, rng, None, partial, partial) for s in scenes]

    def wrong_captions(
        self, indices: np.ndarray, rng: np.random.Generator, mistakes: bool = True
    ) -> list[str]:
        """For each image of a scene at `indices` a full caption that is nearly right; none for images with captions.

        `mistakes` allows typing mistakes in a tenth of them.
        """
        scenes = (self.scenes[i] for i in indices)
        return [wrong_caption(scene, rng, mistakes) for scene in scenes if not isinstance(scene, str)]


def draw_postcards(
    folder: Path, split: str, count: int, size: int, seed: int = 0, subjects: Sequence[str] = SUBJECTS
) -> CaptionedImages:
    """The first `count` postcards of series `seed`, read from `folder` if they were drawn before.

    `subjects` are those of a smaller world. The file name contains everything that the drawings depend on,
    including a hash of the drawing code.
    """
    suffix = "" if set(subjects) == set(SUBJECTS) else "-".join(("", *sorted(subjects)))
    path = folder / f"{split}{suffix}-{count}-{size}-{seed}-{drawing_code()}.npy"
    draw_one = partial(_draw, seed=seed, size=size, split=split, subjects=tuple(subjects))
    drawn = draw_once(path, draw_one, count, (size, size, 3), f"drawing ({split})")
    scenes = [sample_scene(np.random.default_rng([seed, i]), split, subjects) for i in range(count)]
    return CaptionedImages(scenes, drawn, path.stem)


def draw_importance(
    folder: Path, images: CaptionedImages, cells: int, seed: int = 0, subjects: Sequence[str] = SUBJECTS
) -> Float[np.ndarray, "n h w"]:
    """How much each of cells x cells parts counts, for each of the drawings that `draw_postcards` made for training.

    It reads and writes a file beside theirs, and draws them once more, smaller, to see where their things are.
    """
    code = fingerprint(Path(str(inspect.getsourcefile(importance))))[:8]
    path = folder / f"{images.identity}-importance-{cells}-{code}.npy"
    draw_one = partial(_draw_importance, seed=seed, cells=cells, subjects=tuple(subjects))
    what = "drawing (where things are)"
    return draw_once(path, draw_one, len(images), (cells, cells), what, np.float16).astype(np.float32)


def draw_once(
    path: Path,
    draw_one: Callable[[int], np.ndarray],
    count: int,
    shape: tuple[int, ...],
    what: str,
    dtype: type[np.generic] = np.uint8,
) -> Shaped[np.ndarray, "n ..."]:
    """Drawings 0 ... count - 1, read from the file at `path`, which process 0 writes if there is none yet.

    `path` must name all that the drawings depend on, for nothing else tells an old file from a new one; `draw_one`
    gives one of that shape, and must be picklable; `what` is said beside the progress bar. Raises `LdmError` if the
    file is damaged.
    """
    if rank() == 0 and not path.exists():
        drawn = draw_in_parallel(draw_one, np.empty((count, *shape), dtype), what)
        with atomic_path(path) as temporary:
            np.save(temporary, drawn)
    barrier()
    return _read_drawn(path, (count, *shape), dtype)


def _read_drawn(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> Shaped[np.ndarray, "n ..."]:
    open_regular(path).close()
    try:
        drawn = np.load(path, mmap_mode="r")
        if drawn.shape != shape or drawn.dtype != dtype:
            raise ValueError(f"{drawn.dtype} of shape {drawn.shape}")
    except (OSError, ValueError, EOFError) as error:
        raise LdmError(f"{path} is damaged ({error}); delete it to have it drawn again") from error
    return drawn


def drawing_code() -> str:
    """A hash of 8 hexadecimal digits of the code that draws and describes the postcards."""
    sources = sorted(Path(str(ldm.postcards.__file__)).parent.glob("*.py"))
    return fingerprint(*sources)[:8]


def draw_in_parallel(
    draw_one: Callable[[int], np.ndarray], drawn: Shaped[np.ndarray, "n ..."], what: str
) -> Shaped[np.ndarray, "n ..."]:
    """Fill `drawn` with the drawings 0 ... n - 1, on all cores; `draw_one` must be picklable."""
    count = len(drawn)
    workers = min(os.cpu_count() or 1, math.ceil(count / CHUNK))
    # "spawn", because a forked process may hang if its parent runs torch's threads.
    context = multiprocessing.get_context("spawn")
    # Ctrl-C reaches all processes; only this one handles it.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(workers, context, initializer=signal.signal, initargs=ignore) as pool:
        drawings = pool.map(draw_one, range(count), chunksize=CHUNK)
        try:
            for i, drawing in enumerate(tqdm(drawings, total=count, desc=what, unit="image")):
                drawn[i] = drawing
        except BaseException:
            pool.shutdown(cancel_futures=True)  # otherwise the `with` block waits for all pending tasks
            raise
    return drawn


def _draw(index: int, seed: int, size: int, split: str, subjects: Sequence[str]) -> np.ndarray:
    return np.asarray(postcard(index, seed, size, split, subjects=subjects).image)


def _draw_importance(index: int, seed: int, cells: int, subjects: Sequence[str]) -> np.ndarray:
    rng = np.random.default_rng([seed, index])
    scene = sample_scene(rng, "train", subjects)
    return importance(draw_with_boxes(scene, rng, 64)[1], cells)


def random_noise(shape: Sequence[int], generator: torch.Generator, rank_slice: slice) -> Float[Tensor, "..."]:
    """Standard normal noise for the whole batch, cut to the `rank_slice` of this process.

    It is drawn on the CPU, so that a seed gives the same noise on every device.
    """
    return torch.randn(tuple(shape), generator=generator)[rank_slice].to(device())
