r"""All that the network reads besides the noisy latent and its timestep.

Text to image needs one field: the context, the prompt's vectors that cross-attention reads. The others are where more
comes in: channels beside the latent's own (an inpainting model's mask and masked image), and residuals, feature maps
that another network computed to be added inside the U-Net (ControlNet). Samplers never look inside.
"""

from collections.abc import Callable, Sized
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError


@dataclass(frozen=True)
class Conditioning:
    """What a batch of images is conditioned on; a field of batch size 1 is the same for every image."""

    context: Float[Tensor, "#b n d"]  # cross-attention reads it: the text encoder's states
    # Concatenated to the latent: an inpainting U-Net's extra channels.
    channels: Float[Tensor, "#b c h w"] | None = None
    # Added to the U-Net's skip connections, in the order in which the down path makes them, and last to its middle.
    # Source: Zhang et al. 2023 (ControlNet), section 3.2.
    residuals: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.context)

    def __getitem__(self, images: slice) -> "Conditioning":
        """That of some of the images."""
        return self._each(lambda field: field if len(field) == 1 < len(self) else field[images])

    def expand(self, count: int) -> "Conditioning":
        """The same for `count` images. Raises `LdmError` if it is that of another number, and not of one."""
        if len(self) not in (1, count):
            raise LdmError(
                f"the conditioning of {len(self)} images for {count}; expected that of 1 or of {count}"
            )
        return self._each(lambda field: field.expand(count, *field.shape[1:]))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Conditioning":
        channels = None if self.channels is None else change(self.channels)
        return Conditioning(change(self.context), channels, tuple(map(change, self.residuals)))


def concatenate(first: Conditioning, second: Conditioning) -> Conditioning:
    """One batch of two. Raises `LdmError` unless both have the same fields, of the same sizes."""
    shapes = [
        [
            None if field is None else tuple(field.shape[1:])
            for field in (part.context, part.channels, *part.residuals)
        ]
        for part in (first, second)
    ]
    if shapes[0] != shapes[1]:
        raise LdmError(f"conditionings of the shapes {shapes[0]} and {shapes[1]}; expected the same for both")
    channels = [part.channels for part in (first, second) if part.channels is not None]
    return Conditioning(
        torch.cat([first.context, second.context]),
        torch.cat(channels) if channels else None,
        tuple(torch.cat(pair) for pair in zip(first.residuals, second.residuals, strict=True)),
    )


def count_images(batch: int | None, **given: object) -> int:
    """How many images: as many as the lists in `given` have entries, or as `batch` says, or one.

    What is no list (a text, a number, None) serves for every image, and so does a conditioning of batch size 1. Raises
    `LdmError` for lists of different lengths, for empty ones, and for a `batch` beside a list.
    """
    counts = {
        name: len(value)
        for name, value in given.items()
        if isinstance(value, Sized)
        and not isinstance(value, str)
        and not (isinstance(value, Conditioning) and len(value) == 1)
    }
    if counts and batch is not None:
        raise LdmError(
            f"a batch of {batch} with a list of {next(iter(counts))}, each of which gives one image; leave `batch` "
            "out, and name an entry as often as it is wanted"
        )
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise LdmError(f"lists of {found}; expected the same number of each")
    count = next(iter(counts.values()), 1 if batch is None else batch)
    if count < 1:
        raise LdmError(f"a batch of {count} images; expected at least 1")
    return count
