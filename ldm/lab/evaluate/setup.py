r"""What all measurements share: the models, drawings for comparison, the sample sizes, and the folder for sheets."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ldm.errors import LdmError
from ldm.files.read_write import atomic_path
from ldm.images.pixels import to_pixels
from ldm.lab.evaluate.judge import Judge
from ldm.pipeline import LatentDiffusion
from ldm.postcards import Scene, postcard
from ldm.text.clip import CLIP
from ldm.text.tokenizer import Tokenizer

# The series of drawings that metrics are computed on. No two measurements share random numbers: 899 and 900 are prompts
# (adherence), 901 CLIP's texts (understanding), 903 the judge's drawings, 904 and 905 drawings of the prompts' scenes,
# 906 those of one prompt, 907 and 908 those for attention, 909 those for memorisation, 910 the captions for retrieval.
SERIES = 902


@dataclass(frozen=True)
class Counts:
    r"""The sample sizes."""

    prompts: int = 1000  # of each set
    drawings: int = 1024
    examples: int = 2000  # drawings, some with flaws, for the judge's own accuracy
    variety: tuple[int, int] = (12, 24)  # prompts, and images of each
    compared: int = 200  # images whose nearest training drawing is found
    training: int = 50_000  # drawings in which to search it: the training set of the shipped model
    guidance: int = 300  # prompts that are generated at guidance 1 as well
    negative: int = 270  # images, of which some are generated twice more, each time with a negative prompt
    sizes: int = 30  # prompts, each in every size of `controls.SHAPES`
    attention: int = 200  # drawings with captions


FULL = Counts()
QUICK = Counts(prompts=100, drawings=256, examples=400, variety=(4, 12), compared=32, training=2000,
               guidance=32, negative=27, sizes=3, attention=20)  # fmt: skip


@dataclass(frozen=True)
class Setup:
    r"""The models to evaluate, the judge, and the folder for sheets."""

    model: LatentDiffusion
    clip: CLIP
    tokenizer: Tokenizer
    judge: Judge
    out: Path
    counts: Counts

    @property
    def size(self) -> int:
        r"""The side of the model's images in pixels."""
        return self.model.config.defaults.size


@dataclass(frozen=True)
class Drawings:
    r"""Scenes and their drawings, in [-1, 1]."""

    scenes: list[Scene]
    pixels: Float[Tensor, "n 3 s s"]


def drawings(split: str, count: int, size: int) -> Drawings:
    r"""The first `count` postcards of our series."""
    cards = [
        postcard(i, SERIES, size, split) for i in with_progress(range(count), count, f"drawing ({split})")
    ]
    return Drawings([card.scene for card in cards], to_pixels([card.image for card in cards]))


Item = TypeVar("Item")


def with_progress(items: Iterable[Item], total: int, what: str, unit: str = "image") -> Iterator[Item]:
    r"""The same items, with a progress bar."""
    yield from tqdm(items, total=total, desc=what, unit=unit, leave=False)


def save(image: Image.Image, path: Path) -> None:
    r"""Write a sheet as PNG. Raises `LdmError` if that is not possible."""
    try:
        with atomic_path(path) as temporary:
            image.save(temporary, format="PNG")
    except OSError as error:
        raise LdmError(f"cannot write {path}: {error.strerror or error}; give another place") from error
