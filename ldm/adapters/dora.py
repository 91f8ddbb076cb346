r"""DoRA: a LoRA that turns the rows of a weight, beside a learned length for each of them.

A low-rank change alters the length of a weight's rows and their direction together, while full fine-tuning mostly
turns them. DoRA (Liu et al. 2024, eq. 5) separates the two: the sum of weight and change gives the direction alone,
and a vector $m$, the magnitude, the length:

$$W' = m\,\frac{W + \Delta W}{\lVert W + \Delta W \rVert}$$

The norm is that of the *sum*, and it is taken of each output's row, over all inputs and the kernel. (The paper says
"column": it writes weights as [in, out].) Old files of LyCORIS normalise each input's column instead; their magnitude
is [1, in] in place of [out, 1]. On a square weight the other axis gives no error, only a wrong image.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def dora(
    weight: Float[Tensor, "out *rest"],
    delta: Float[Tensor, "out *rest"],
    magnitude: Float[Tensor, "*m"],
    per_output: bool = True,
) -> Float[Tensor, "out *rest"]:
    r"""The new weight. `magnitude` holds one length per output, or with `per_output=False` one per input."""
    changed = weight + delta
    axis = 0 if per_output else 1
    others = [i for i in range(changed.ndim) if i != axis]
    norm = torch.linalg.vector_norm(changed, dim=others, keepdim=True)
    # A row of zeros has no direction, and stays zero.
    return magnitude.reshape(norm.shape) * changed / norm.clamp_min(torch.finfo(norm.dtype).tiny)
