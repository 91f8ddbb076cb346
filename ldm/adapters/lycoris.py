r"""LoHa and LoKr: products of small matrices whose rank is not small.

A product $BA$ of rank $r$ needs $r\,(m + n)$ numbers for an m x n weight. Two other products get more rank out of as
many numbers:

- *LoHa* multiplies two low-rank matrices element by element (the Hadamard product, $\odot$), which may have rank $r^2$
  (Hyeon-Woo et al. 2022, proposition 1):

$$\Delta W = (B_1 A_1) \odot (B_2 A_2)$$

- *LoKr* takes the Kronecker product: every number of a small matrix is multiplied by a whole other one. The rank of the
  result is the product of their ranks.

$$\Delta W = C \otimes D, \qquad D = B A \text{ or whole}$$

Both are multiplied by $\alpha / r$ like a LoRA. The names of tensors are those of LyCORIS (Yeh et al. 2024), whose
files spell LoHa's $B_k, A_k$ `hada_wk_a`, `hada_wk_b`, and LoKr's $C, D$ `lokr_w1`, `lokr_w2`.

A convolution's kernel is flattened with the inputs, or kept as the core of a Tucker decomposition (`t`), whose factors
are transposed: [r, out] beside [r, in].
"""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError

Factors = Mapping[str, Tensor]


def loha(factors: Factors) -> Float[Tensor, "out rest"]:
    r"""$(B_1 A_1) \odot (B_2 A_2)$ from `hada_w1_a`, `hada_w1_b`, `hada_w2_a`, `hada_w2_b` (`hada_t1`, `hada_t2`)."""
    one, two = (
        _product(factors[f"hada_w{k}_a"], factors[f"hada_w{k}_b"], factors.get(f"hada_t{k}")) for k in (1, 2)
    )
    return (one * two).flatten(1)


def lokr(factors: Factors, shape: Sequence[int]) -> Float[Tensor, "out rest"]:
    r"""$C \otimes D$ from `lokr_w1` and `lokr_w2`, each whole or as `_a`, `_b` (`lokr_t2`), for a weight of `shape`.

    The Kronecker product is that of outputs and inputs; every number of the kernel is multiplied by the same $C$.
    """
    small, large = (
        factors[f"lokr_w{k}"]
        if f"lokr_w{k}" in factors
        else _product(factors[f"lokr_w{k}_a"], factors[f"lokr_w{k}_b"], factors.get(f"lokr_t{k}"))
        for k in (1, 2)
    )
    small = small.flatten(1)
    kernel = shape[2:]
    large = large.reshape(shape[0] // small.shape[0], shape[1] // small.shape[1], *kernel)
    # (torch's kron cannot read the transposed numbers that einsum may leave.)
    return torch.kron(small.reshape(*small.shape, *[1] * len(kernel)), large.contiguous()).flatten(1)


def rank(factors: Factors) -> int | None:
    r"""The inner dimension $r$; None for a LoKr with both factors whole, which has none and whose scale is 1."""
    inner = [factors[name].shape[0] for name in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b") if name in factors]
    return inner[0] if inner else None


def size(factors: Factors) -> tuple[int, int]:
    r"""The size of what the factors give: outputs, and inputs times the numbers of the kernel.

    Raises `LdmError` if the two halves of a LoHa differ in size.
    """
    kind = "hada" if "hada_w1_a" in factors else "lokr"
    one, two = (_size(factors, f"{kind}_w{k}", f"{kind}_t{k}") for k in (1, 2))
    if kind == "lokr":
        return one[0] * two[0], one[1] * two[1]
    if one != two:
        raise LdmError(f"the halves of a LoHa give {one} and {two} numbers; expected as many")
    return one


def _size(factors: Factors, name: str, core: str) -> tuple[int, int]:
    if name in factors:
        return factors[name].shape[0], math.prod(factors[name].shape[1:])
    a, b = factors[f"{name}_a"].shape, factors[f"{name}_b"].shape
    if core in factors:
        return a[1], b[1] * math.prod(factors[core].shape[2:])
    return a[0], math.prod(b[1:])


def _product(a: Tensor, b: Tensor, core: Tensor | None) -> Tensor:
    r"""$BA$, or with a core $T$ of a Tucker decomposition $\sum_{ij} T_{ijhw}\, a_{ip}\, b_{jq}$."""
    if core is None:
        return a @ b.flatten(1)
    return torch.einsum("i j h w, i p, j q -> p q h w", core, a, b)
