r"""Merging: the changes that adapters make to one weight, whatever their kind, added up and rounded once.

Every change is computed from the model's own weight $W$, and all of them are added to it:

$$W' = W + \sum_i s_i \left(f_i(W) - W\right)$$

For a LoRA, $f(W) - W$ is the product itself. So several adapters can be merged in any order; strength 0 is the model as
it was; and half the strength is half the way. (At strengths other than 1, DoRA is not defined by its paper: ComfyUI and
LyCORIS go part of the way, as here; PEFT puts $s$ inside the norm, where strength 0 is not the model as it was.)
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.adapters import lycoris
from ldm.adapters.dora import dora
from ldm.adapters.lora import low_rank, scale
from ldm.errors import LdmError


@dataclass(frozen=True)
class Change:
    """What an adapter does to one parameter: its factors, by name, and how they are scaled."""

    kind: str  # "LoRA", "LoHa", "LoKr"; "full": `diff` is the change itself
    factors: Mapping[str, Tensor]
    alpha: float | None = None
    magnitude: Tensor | None = None  # DoRA's
    per_output: bool = True  # whether that has one number per output

    def __post_init__(self) -> None:
        """Raises `LdmError` if the rank is 0, or the factors cannot be multiplied as far as their shapes tell."""
        try:
            rank, _ = self.rank, self.size
            wrong = self.kind == "LoRA" and self.factors["up"].shape[1] != self.factors["down"].shape[0]
        except IndexError:
            wrong = True
        if wrong:
            raise LdmError(f"its factors do not multiply: {self.shapes}; fetch the file again")
        if rank == 0:
            raise LdmError("its rank is 0, so it changes nothing; take another file")

    @property
    def rank(self) -> int | None:
        """The rank of a LoRA; the inner dimension of the others, if they have one."""
        if self.kind == "full":
            return None
        return self.factors["down"].shape[0] if self.kind == "LoRA" else lycoris.rank(self.factors)

    @property
    def size(self) -> tuple[int, int]:
        """The size of the change: outputs, and inputs times the numbers of the kernel."""
        if self.kind in ("LoHa", "LoKr"):
            return lycoris.size(self.factors)
        if self.kind == "full":
            return self.factors["diff"].shape[0], math.prod(self.factors["diff"].shape[1:])
        kernel = self.factors["mid"].shape[2:] if "mid" in self.factors else ()
        return self.factors["up"].shape[0], math.prod((*self.factors["down"].shape[1:], *kernel))

    @property
    def shapes(self) -> str:
        return ", ".join(f"{name} {list(factor.shape)}" for name, factor in self.factors.items())

    def misfit(self, shape: Sequence[int]) -> str | None:
        """What is wrong with this change for a weight of that shape; None if it fits."""
        if self.size != (shape[0], math.prod(shape[1:])):
            return f"{self.shapes} for a weight of {list(shape)}"
        lengths = 0 if self.magnitude is None else self.magnitude.numel()
        if lengths and (len(shape) < 2 or lengths != shape[0 if self.per_output else 1]):
            return f"a magnitude of {lengths} numbers for a weight of {list(shape)}"
        return None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Change":
        """The same change with every tensor replaced by `function` of it."""
        factors = {name: function(tensor) for name, tensor in self.factors.items()}
        magnitude = None if self.magnitude is None else function(self.magnitude)
        return replace(self, factors=factors, magnitude=magnitude)


def difference(change: Change, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""$f(W) - W$, in the weight's dtype and on its device, which the factors must have too.

    Raises `LdmError` for a change that does not fit the weight.
    """
    if why := change.misfit(weight.shape):
        raise LdmError(f"a change does not fit: {why}; take an adapter that was made for this model")
    factors, rank = change.factors, change.rank
    try:
        if change.kind == "LoRA":
            delta = low_rank(factors["up"], factors["down"], factors.get("mid"))
        elif change.kind == "LoHa":
            delta = lycoris.loha(factors)
        elif change.kind == "LoKr":
            delta = lycoris.lokr(factors, weight.shape)
        else:
            delta = factors["diff"]
    except RuntimeError as error:
        raise LdmError(
            f"a change's factors do not multiply: {change.shapes}; fetch the file again"
        ) from error
    # A kernel of 1 x 1 may be missing on either side: some files have a linear map where others have a convolution.
    delta = delta.reshape(weight.shape) * (1.0 if rank is None else scale(change.alpha, rank))
    if change.magnitude is None:
        return delta
    return dora(weight, delta, change.magnitude, change.per_output) - weight


@torch.no_grad()
def merged(
    weight: Float[Tensor, "*shape"], changes: Iterable[tuple[Change, float]]
) -> Float[Tensor, "*shape"]:
    r"""A weight with changes of these strengths merged into it, in its own dtype and memory format.

    The sum is formed in float32 at least, so that half precision rounds once.
    """
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    total = torch.zeros_like(wide)
    for change, strength in changes:
        total += strength * difference(change.map(lambda tensor: tensor.to(wide)), wide)
    return torch.empty_like(weight).copy_(wide + total)
