r"""What Stable Diffusion XL adds to the time embedding: the prompt as a whole, and numbers that describe the image.

Each number becomes sinusoids, as the timestep does; next to each other, and after the pooled text, they pass through a
small MLP, whose output is added to the time embedding. So every residual block receives them. What the numbers mean:
`ldm/diffusion/micro_conditioning.py`.

Source: Podell et al. 2024, section 2.2.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ldm.config import AddedConfig
from ldm.errors import LdmError
from ldm.unet.embedding import timestep_embedding


class AddedEmbedding(nn.Module):
    r"""The vector that is added to the time embedding, from the pooled text $p$ and the numbers $n_1 \ldots n_k$:

    $$W_2\,\mathrm{SiLU}\bigl(W_1\,[p, \mathrm{emb}(n_1), \ldots, \mathrm{emb}(n_k)] + b_1\bigr) + b_2$$

    where emb are the sinusoids of `timestep_embedding`.
    """

    def __init__(self, config: AddedConfig, width: int):
        super().__init__()
        self.config = config
        self.linear_1 = nn.Linear(config.pooled_width + config.numbers * config.sinusoid_width, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(
        self, pooled: Float[Tensor, "b p"] | None, micro: Float[Tensor, "b k"] | None
    ) -> Float[Tensor, "b d"]:
        """Raises `LdmError` if one of the two is missing, or not as wide as the model was built for."""
        width, count = self.config.pooled_width, self.config.numbers
        if pooled is None or micro is None or (pooled.shape[1], micro.shape[1]) != (width, count):
            found = ["no" if part is None else str(part.shape[1]) for part in (pooled, micro)]
            raise LdmError(
                f"{found[0]} pooled values and {found[1]} numbers about the image; this U-Net reads {width} and "
                f"{count}: encode the prompt with its own text encoders, and fill the conditioning's `pooled`, `micro`"
            )
        sinusoids = timestep_embedding(micro.flatten(), self.config.sinusoid_width)
        numbers = rearrange(sinusoids, "(b k) w -> b (k w)", k=count).to(pooled)
        return self.linear_2(F.silu(self.linear_1(torch.cat([pooled, numbers], dim=1))))
