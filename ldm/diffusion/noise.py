r"""Where the noise comes from: one seeded generator per image.

Image i of a batch draws from seed + i, always in float32 on the CPU; only then is the noise cast and moved. So the same
seed gives the same noise on every device, in every dtype, alone or in a batch of any size.
"""

import random
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError

MOST_PIXELS = 2**26  # anything larger is a typing mistake: not a sixteenth of it fits on a graphics card
SEEDS = 2**32  # torch's generator on the CPU reads 32 bits of a seed: 2**32 + 5 would be the same noise as 5


def check_seed(seed: object) -> None:
    """Raises `LdmError` for anything but a whole number in [0, 2**32)."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed.__index__() < SEEDS:
        raise LdmError(
            f"seed {seed!r}; expected a whole number from 0 to 2**32 - 1, or -1 to draw one at random"
        )


def pick_seed(seed: int | None, count: int = 1) -> int:
    """The first of `count` seeds in a row: the one given, or for None and -1 one drawn at random.

    Raises `LdmError` for a seed outside [0, 2**32), and if the last one would be.
    """
    if seed is None or seed == -1:
        return random.randrange(2**31)
    check_seed(seed)
    if seed + count > SEEDS:
        raise LdmError(
            f"seed {seed} and the {count - 1} after it; the largest is 2**32 - 1 = {SEEDS - 1}: give a smaller one"
        )
    return seed


def pick_seeds(seed: int | Sequence[int] | None, count: int) -> Sequence[int]:
    """The seeds of `count` images: a list as it is given (each -1 in it drawn at random), otherwise a row."""
    if isinstance(seed, Sequence):
        return [pick_seed(one) for one in seed]
    first = pick_seed(seed, count)
    return range(first, first + count)


def latent_shape(size: tuple[int, int], channels: int, factor: int) -> tuple[int, int, int]:
    """The [z, h, w] of the latents of images of `size` (width, height), each covering `factor` x `factor` pixels.

    Raises `LdmError` for a size that is not a multiple of the factor, and for one beyond `MOST_PIXELS`.
    """
    width, height = size
    if width % factor or height % factor or min(size) < factor:
        near = "x".join(str(max(factor, round(pixels / factor) * factor)) for pixels in size)
        raise LdmError(
            f"a size of {width}x{height} pixels; both must be multiples of {factor}, such as {near}"
        )
    if width * height > MOST_PIXELS:
        raise LdmError(f"a size of {width}x{height} pixels; expected at most {MOST_PIXELS:,} pixels in all")
    return channels, height // factor, width // factor  # tensors: height first


def image_size(latents: Tensor, factor: int) -> tuple[int, int]:
    """The (width, height) in pixels of the images that latents [b, z, h, w] become."""
    return latents.shape[-1] * factor, latents.shape[-2] * factor


def noise_source(
    seeds: Sequence[int], shape: Sequence[int], dtype: torch.dtype, device: torch.device | str
) -> Callable[[], Float[Tensor, "b *shape"]]:
    """A `NoiseFn`: each call draws fresh standard normal noise [len(seeds), *shape].

    Raises `LdmError` for a seed outside [0, 2**32).
    """
    for seed in seeds:
        check_seed(seed)
    generators = [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds]

    def draw() -> Tensor:
        images = [torch.randn(*shape, generator=g, dtype=torch.float32, device="cpu") for g in generators]
        return torch.stack(images).to(device=device, dtype=dtype)

    return draw


def in_place_of(drawn: Float[Tensor, "b *shape"], latents: Tensor | None) -> Float[Tensor, "b *shape"]:
    """Noise that the caller gives in place of what was `drawn`, in its dtype and on its device.

    Raises `LdmError` for another shape.
    """
    if latents is None:
        return drawn
    if latents.shape != drawn.shape:
        raise LdmError(
            f"latents of the shape {list(latents.shape)}; expected {list(drawn.shape)} for these images"
        )
    return latents.to(drawn)
