r"""Where the noise comes from: one seeded generator per image.

Each image of a batch has its own seed: seed, seed + 1, ..., unless a list is given. Its noise is drawn in float32 on
the CPU, then cast and moved. So a seed gives the same noise on every device, in every dtype, alone or in a batch of any
size.
"""

import random
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError

MAX_PIXELS = 2**26  # 8192 x 8192: anything larger is taken for a typo
SEED_LIMIT = 2**32  # torch's CPU generator reads 32 bits of a seed: 2**32 + 5 would give the same noise as 5


def check_seed(seed: object) -> None:
    """Raise `LdmError` unless the seed is a whole number in [0, 2**32)."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed.__index__() < SEED_LIMIT:
        raise LdmError(f"seed {seed!r}; expected a whole number from 0 to 2**32 - 1")


def pick_seed(seed: int | None, count: int = 1) -> int:
    """The first of `count` consecutive seeds: `seed` itself, or a random one if it is None or -1.

    Raises `LdmError` if any of the seeds would lie outside [0, 2**32).
    """
    if seed is None or seed == -1:
        return random.randrange(2**31)  # leaves room for the seeds after it
    check_seed(seed)
    if seed + count > SEED_LIMIT:
        raise LdmError(
            f"seed {seed} and the {count - 1} after it; the largest is 2**32 - 1 = {SEED_LIMIT - 1}: give a smaller one"
        )
    return seed


def pick_seeds(seed: int | Sequence[int] | None, count: int) -> Sequence[int]:
    """The seeds of `count` images: consecutive from `seed`, or a given list with each -1 replaced by a random seed.

    The length of a list is not checked.
    """
    if isinstance(seed, Sequence):
        return [pick_seed(one) for one in seed]
    first = pick_seed(seed, count)
    return range(first, first + count)


def latent_shape(size: tuple[int, int], channels: int, factor: int) -> tuple[int, int, int]:
    """The shape [channels, h, w] of the latent of an image of `size` (width, height).

    Each latent position covers `factor` x `factor` pixels. Raises `LdmError` unless both sides are multiples of the
    factor and the image has at most `MAX_PIXELS`.
    """
    width, height = size
    if width % factor or height % factor or min(size) < factor:
        near = "x".join(str(max(factor, round(pixels / factor) * factor)) for pixels in size)
        raise LdmError(
            f"a size of {width}x{height} pixels; both sides must be multiples of {factor}, such as {near}"
        )
    if width * height > MAX_PIXELS:
        raise LdmError(f"a size of {width}x{height} pixels; expected at most {MAX_PIXELS:,} pixels in all")
    return channels, height // factor, width // factor  # tensors: height first


def image_size(latents: Tensor, factor: int) -> tuple[int, int]:
    """The (width, height) in pixels of the images that latents [b, channels, h, w] decode to."""
    return latents.shape[-1] * factor, latents.shape[-2] * factor


def noise_source(
    seeds: Sequence[int], shape: Sequence[int], dtype: torch.dtype, device: torch.device | str
) -> Callable[[], Float[Tensor, "b *shape"]]:
    """A function that draws fresh standard normal noise [len(seeds), *shape] per call (a `NoiseFn`: see `sample.py`).

    Raises `LdmError` for a seed outside [0, 2**32).
    """
    for seed in seeds:
        check_seed(seed)
    generators = [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds]

    def draw() -> Tensor:
        images = [torch.randn(*shape, generator=g, dtype=torch.float32, device="cpu") for g in generators]
        return torch.stack(images).to(device=device, dtype=dtype)

    return draw


def given_or_drawn(given: Tensor | None, drawn: Float[Tensor, "b *shape"]) -> Float[Tensor, "b *shape"]:
    """The noise that the caller gives, in the dtype and on the device of `drawn`; `drawn` itself if it is None.

    Raises `LdmError` if the shapes differ.
    """
    if given is None:
        return drawn
    if given.shape != drawn.shape:
        raise LdmError(f"latents of shape {list(given.shape)}; expected {list(drawn.shape)} for these images")
    return given.to(drawn)
