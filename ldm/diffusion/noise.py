r"""Where the noise comes from: one seeded generator per image.

Image i of a batch draws from seed + i, always in float32 on the CPU; only then is the noise cast and moved. So the same
seed gives the same noise on every device, in every dtype, alone or in a batch of any size.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError


def noise_source(
    seeds: Sequence[int], shape: Sequence[int], dtype: torch.dtype, device: torch.device | str
) -> Callable[[], Float[Tensor, "b *shape"]]:
    """A `NoiseFn`: each call draws fresh standard normal noise [len(seeds), *shape].

    Raises `LdmError` for a seed outside [0, 2**63), which no generator takes.
    """
    for seed in seeds:
        if not 0 <= seed < 2**63:
            raise LdmError(f"seed {seed}; expected a whole number from 0 to 2**63 - 1")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw() -> Tensor:
        images = [torch.randn(*shape, generator=g, dtype=torch.float32) for g in generators]
        return torch.stack(images).to(device=device, dtype=dtype)

    return draw
