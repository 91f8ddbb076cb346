r"""The transformer layer that both halves of CLIP are made of.

Self-attention, then a two-layer perceptron; each reads a normalised copy and adds its result to the stream
("pre-norm": Radford et al. 2019, section 2.3). Only the mask differs: text looks back, pictures look around.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.nn.attention import Attention


def quick_gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""$x\,\sigma(1.702\,x)$, OpenAI's shortcut for GELU (Hendrycks & Gimpel 2016, section 2).

    It is off by up to 0.02. A model trained with one must be run with the same one.
    """
    return x * torch.sigmoid(1.702 * x)


def embedding(rows: int, width: int) -> nn.Embedding:
    """`nn.Embedding`, with the same standard normal numbers from the same generator.

    On the meta device, where there are none, it draws none: there torch's own class imports the whole of torch's
    compiler to draw them, for more than a second at the start of every program that loads a model.
    """
    weight = torch.empty(rows, width)
    return nn.Embedding.from_pretrained(weight if weight.is_meta else weight.normal_(), freeze=False)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class MLP(nn.Module):
    """Each token thinks for itself, four times as wide."""

    def __init__(self, width: int, activation: str):
        super().__init__()
        self.fc_1 = nn.Linear(width, 4 * width)
        self.fc_2 = nn.Linear(4 * width, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.fc_2(self.activation(self.fc_1(x)))


class TransformerLayer(nn.Module):
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
