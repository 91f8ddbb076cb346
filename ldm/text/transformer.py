r"""The transformer layer that both of CLIP's encoders are built from.

Self-attention, then a two-layer perceptron. Each reads a normalised copy of its input and adds its output to the
residual stream ("pre-norm": Radford et al. 2019, section 2.3). Only the mask differs: text tokens attend to earlier
tokens, image patches to all patches.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.nn.attention import Attention


def quick_gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""$x\,\sigma(1.702\,x)$, OpenAI's approximation of GELU (Hendrycks & Gimpel 2016, section 2).

    It differs from GELU by up to 0.02, so a model must be run with the one that it was trained with.
    """
    return x * torch.sigmoid(1.702 * x)


def embedding(rows: int, width: int) -> nn.Embedding:
    """`nn.Embedding`, initialised from N(0, 1) as in torch (CLIP uses standard deviations of 0.01 and 0.02)."""
    # On the meta device torch's own initialisation would import its compiler, which takes more than a second.
    weight = torch.empty(rows, width)
    return nn.Embedding.from_pretrained(weight if weight.is_meta else weight.normal_(), freeze=False)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class MLP(nn.Module):
    """A two-layer perceptron, applied to each token separately; the hidden layer is four times as wide."""

    def __init__(self, width: int, activation: str):
        super().__init__()
        self.fc_1 = nn.Linear(width, 4 * width)
        self.fc_2 = nn.Linear(4 * width, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.fc_2(self.activation(self.fc_1(x)))


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, activation: str):
        super().__init__()
        self.norm_1 = nn.LayerNorm(width, eps=1e-5)
        self.attn = Attention(width, heads)
        self.norm_2 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = MLP(width, activation)

    def forward(self, x: Float[Tensor, "b n d"], causal: bool = False) -> Float[Tensor, "b n d"]:
        x = x + self.attn(self.norm_1(x), causal=causal)
        return x + self.mlp(self.norm_2(x))
