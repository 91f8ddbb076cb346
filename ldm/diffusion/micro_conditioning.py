r"""Micro-conditioning: what Stable Diffusion XL is told about the size and the crop of an image.

Training images come in many sizes; they are resized, and cropped to fit a batch. A network that is not told generates
blurred images, because it has seen many that were enlarged, and cut-off heads, because it has seen many crops. So in
training it was told three pairs of numbers, always the height (or the top) first:

    original size    the size of the image before it was resized: a small one asks for a blurred image
    crop             the top and left edge of the part that was cut out: (0, 0) asks for an object in the middle
    target size      the size that it was resized and cropped to: the size that is generated

The refiner is told an aesthetic score instead of the target size: how much people like such an image, from 0 to 10. It
was trained to tell good images from poor ones, so the negative prompt comes with a low score.

Source: Podell et al. 2024, section 2.2.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError

Size = tuple[int, int]  # (width, height), as everywhere here; the network reads the height first
AESTHETIC_SCORE, NEGATIVE_SCORE = 6.0, 2.5
LARGEST = 2**16  # of any of the numbers


@dataclass(frozen=True)
class MicroConditioning:
    """The numbers that the network is told; each has a default, which the size that is generated decides."""

    original_size: Size | None = None  # (width, height); default: the size generated
    crop: Size | None = None  # (left, top); default: (0, 0)
    target_size: Size | None = None  # (width, height); default: the size generated
    aesthetic_score: float | None = None  # default: 6, and 2.5 for the negative prompt

    def values(self, size: Size, count: int, negative: bool = False) -> Float[Tensor, "1 {count}"]:
        """As the network reads them: `count` is 6, or 5 for a model that is told a score.

        Raises `LdmError` for numbers that no image has, and for one that the model is not told.
        """
        width, height = self.original_size or size
        left, top = self.crop or (0, 0)
        last: tuple[float, ...] = (self.target_size or size)[::-1]
        if count == 5:
            usual = NEGATIVE_SCORE if negative else AESTHETIC_SCORE
            last = (usual if self.aesthetic_score is None else self.aesthetic_score,)
        if count == 5 and self.target_size is not None:
            raise LdmError("a target size, which this model is not told (it is a refiner); leave it out")
        if count == 6 and self.aesthetic_score is not None:
            raise LdmError("an aesthetic score, which only a refiner is told; leave it out")
        numbers = (height, width, top, left, *last)
        if not all(0 <= number <= LARGEST for number in numbers):
            raise LdmError(f"{self}: expected numbers from 0 to {LARGEST:,}, as an image has them")
        return torch.tensor([numbers], dtype=torch.float32)
