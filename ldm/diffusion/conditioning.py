r"""Everything the network reads besides the noisy latent and its timestep.

Text to image needs one field: the context, the encoded prompt that cross-attention reads. The other fields are for
models that read more: extra input channels (an inpainting model's mask and masked image), residuals, feature maps that
another network computes at each step to be added inside the U-Net (ControlNet), and a vector that stands for the whole
prompt, with numbers that describe the image (Stable Diffusion XL), and the guidance scale (latent consistency models).
Samplers never look inside.
"""

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.level import Latent, Level
from ldm.errors import LdmError


@dataclass(frozen=True)
class Conditioning:
    """What a batch of images is conditioned on. Tensors of batch size 1 are shared by all images."""

    context: Float[Tensor, "#b n d"]  # the text encoder's states, which cross-attention reads
    channels: Float[Tensor, "#b c h w"] | None = None  # concatenated to the latent, in inpainting
    # Added inside the U-Net. Source: Zhang et al. 2023 (ControlNet), section 3.2
    residuals: "Residuals | None" = None
    # Added to the time embedding, in Stable Diffusion XL: the pooled text, and the numbers of `micro_conditioning.py`.
    pooled: Float[Tensor, "#b p"] | None = None
    micro: Float[Tensor, "#b k"] | None = None
    # The guidance scale minus 1, for a network that reads it: see `ldm/unet/guidance_embedding.py`.
    w: Float[Tensor, "#b"] | None = None

    def __len__(self) -> int:
        return len(self.context)

    def __getitem__(self, images: slice) -> "Conditioning":
        """The conditioning of a slice of the images."""
        return self._each(lambda field: field if len(field) == 1 < len(self) else field[images])

    def expand(self, count: int) -> "Conditioning":
        """Repeat it for `count` images. Raises `LdmError` unless it is for 1 or for `count` images."""
        if len(self) not in (1, count):
            raise LdmError(
                f"a conditioning for {len(self)} images, used with {count}; expected one for 1 or {count}"
            )
        return self._each(lambda field: field.expand(count, *field.shape[1:]))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Conditioning":
        changed: dict[str, Any] = {name: change(field) for name, field in self.tensors().items()}
        return replace(self, **changed)

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name, without those that are None."""
        fields = {name: getattr(self, name) for name in ("context", "channels", "pooled", "micro", "w")}
        return {name: field for name, field in fields.items() if field is not None}


# (x_t, its noise level, what else the network reads) -> one tensor per skip connection, in the order in which the down
# path makes them, and a last one for the middle; or nothing, where nothing is to be added.
Residuals = Callable[[Latent, Level, Conditioning], Sequence[Tensor]]
# (the levels that are sampled, the image's size) -> the residuals of prompt and negative prompt; None adds nothing.
ControlFn = Callable[[Sequence[Level], tuple[int, int]], tuple[Residuals | None, Residuals | None]]


def concatenate(first: Conditioning, second: Conditioning) -> Conditioning:
    """Join two conditionings into one batch. Raises `LdmError` unless their tensors have the same sizes."""
    if first.context.shape[1:] != second.context.shape[1:]:
        raise LdmError(
            f"contexts of {tuple(first.context.shape[1:])} and {tuple(second.context.shape[1:])} numbers; expected the "
            "same: encode prompt and negative prompt together, as in `both = model.encode_text([prompt, negative])`"
        )
    one, other = first.tensors(), second.tensors()
    if one.keys() != other.keys():
        differing = ", ".join(sorted(one.keys() ^ other.keys()))
        raise LdmError(f"the two conditionings differ in {differing}; expected the same for both")
    joined: dict[str, Any] = {name: torch.cat([one[name], other[name]]) for name in one}
    residuals = first.residuals
    if residuals is not second.residuals:
        residuals = side_by_side(first.residuals, second.residuals, len(first))
    return replace(first, residuals=residuals, **joined)


def side_by_side(first: Residuals | None, second: Residuals | None, count: int) -> Residuals:
    """The residuals of a batch: `first` gives those of its first `count` images, `second` of the others; None zeros."""

    def residuals(x_t: Latent, level: Level, cond: Conditioning) -> Sequence[Tensor]:
        parts = ((first, slice(count)), (second, slice(count, None)))
        one, other = ([] if part is None else list(part(x_t[at], level, cond[at])) for part, at in parts)
        sizes = (count, len(x_t) - count)
        pairs = zip(one or map(_zeros, other), other or map(_zeros, one), strict=True)
        return [torch.cat([r.expand(n, *r.shape[1:]) for r, n in zip(pair, sizes)]) for pair in pairs]

    return residuals


def _zeros(like: Tensor) -> Tensor:
    return like.new_zeros(1, *like.shape[1:])


def added_up(parts: Sequence[Residuals]) -> Residuals | None:
    """The sum of what several ControlNets add; None if there is none."""
    if len(parts) < 2:
        return parts[0] if parts else None

    def residuals(x_t: Latent, level: Level, cond: Conditioning) -> Sequence[Tensor]:
        found = [each for each in (part(x_t, level, cond) for part in parts) if each]
        return [sum(same[1:], start=same[0]) for same in zip(*found, strict=True)]

    return residuals


def told_guidance(cond: Conditioning, guidance: float) -> Conditioning:
    """The conditioning with a guidance scale in it, which the network reads as $w = g - 1$ (Luo et al. 2023)."""
    return replace(cond, w=torch.tensor([guidance - 1], dtype=torch.float32, device=cond.context.device))


def zeroed(cond: Conditioning, images: Sequence[bool]) -> Conditioning:
    """The conditioning with context and pooled text set to zero for the images that are True in `images`."""
    if not any(images):
        return cond
    zero = torch.tensor(images, device=cond.context.device)
    pooled = None if cond.pooled is None else cond.pooled.masked_fill(zero[:, None], 0)
    return replace(cond, context=cond.context.masked_fill(zero[:, None, None], 0), pooled=pooled)


def count_images(batch: int | None, **given: object) -> int:
    """The number of images: the length of the lists in `given`, or else `batch`, or 1.

    Anything that is not a list (a string, a number, None) applies to every image, and so does a conditioning of batch
    size 1. Raises `LdmError` for lists of different lengths, for empty ones, and for a `batch` along with a list.
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
            f"a batch of {batch} with a list of {next(iter(counts))}, which gives one image per entry; leave `batch` "
            "out, and repeat entries as needed"
        )
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise LdmError(f"lists of {found}; expected the same number of each")
    count = next(iter(counts.values()), 1 if batch is None else batch)
    if count < 1:
        raise LdmError(f"a batch of {count} images; expected at least 1")
    return count
