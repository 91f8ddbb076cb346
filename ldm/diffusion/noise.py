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
