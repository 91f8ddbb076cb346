r"""LoRA: a trained model learns something new by adding a product of two small matrices to its large ones.

Fine-tuning changes a weight $W$ by some $\Delta W$ of the same size. Hu et al. (2022) observe that a $\Delta W$ of low
rank $r$ is enough, so they train its factors instead, $A$ of $r$ rows ("down") and $B$ of $r$ columns ("up"):

$$W' = W + s\,\frac{\alpha}{r}\,B A$$

For the query of Stable Diffusion 1's widest level, 1280 x 1280, that is 1.6 million numbers with $r = 1280$ and 20
thousand with $r = 8$. $\alpha$ belongs to the file: it makes a learning rate that suits one rank suit others. (With a
constant $\alpha$, doubling the rank halves each product's share.) A file without one means $\alpha = r$. The strength
$s$ is the user's: 0 is the model as it was, 1 the LoRA as it was trained, and negative values subtract it.

The factors can run beside the layer, $Wx + s\,\frac{\alpha}{r} B(Ax)$, as they do in training. Here they are merged
into the weight (`ldm.adapters.merge`), which costs nothing per step and leaves every network as its chapter has it.

A convolution is a linear map of each patch, so the same formula holds: "down" is a convolution with the layer's kernel
and $r$ outputs, "up" one of 1 x 1. Flattened, [r, in * h * w] and [out, r], they multiply like matrices.

Source: Hu et al. 2022, section 4.1 and eq. 3.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def low_rank(
    up: Float[Tensor, "out r *one"], down: Float[Tensor, "r into *kernel"], mid: Tensor | None = None
) -> Float[Tensor, "out rest"]:
    r"""The product $BA$ of a linear map's factors, or of a convolution's, one row per output.

    `mid` [r, r, h, w] is the core of a CP decomposition, in which the kernel's height and width are in the middle and
    "down" is 1 x 1 as well: $\Delta W_{oihw} = \sum_{pq} B_{op}\, M_{pqhw}\, A_{qi}$.
    """
    if mid is None:
        return up.flatten(1) @ down.flatten(1)
    return torch.einsum("o p, p q h w, q i -> o i h w", up.flatten(1), mid, down.flatten(1)).flatten(1)


def scale(alpha: float | None, rank: int) -> float:
    r"""The factor $\alpha / r$; 1 for a file that has no $\alpha$."""
    return 1.0 if alpha is None else alpha / rank
