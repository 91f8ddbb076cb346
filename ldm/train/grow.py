"""A VAE with more channels, begun from one with fewer that is trained already.

What a narrower VAE has learned is most of what a wider one has to learn. Where a tensor has grown, the old one becomes
its first rows and columns, and what is new keeps its random initialisation (as in Net2Net: Chen et al. 2016, who
choose the new numbers so that the network computes the same; here training soon makes up for the difference).

The encoder's last layers compute means and log-variances, one half after the other, so each half grows by itself. The
new log-variances begin at `CERTAIN`, almost without noise: with the usual 0, the decoder would learn to ignore them.
"""

from pathlib import Path

import torch
from torch import Tensor

from ldm.checkpoints.folder import read_tensors
from ldm.errors import LdmError
from ldm.vae.vae import VAE

CERTAIN = -6.0  # a standard deviation of 0.05
HALVES = {
    "encoder.conv_out": (0,),
    "encoder.quant_conv": (0, 1),
}  # their axes that hold means, then log-variances


@torch.no_grad()
def grow(vae: VAE, trained: Path) -> None:
    """Give `vae` the weights of a narrower VAE in the folder of a model, in place. Raises `LdmError` if it has other
    layers, or more channels anywhere."""
    old = read_tensors(trained / "vae.safetensors", torch.get_default_dtype())
    for name, weight in vae.state_dict().items():
        if name not in old or old[name].ndim != weight.ndim:
            raise LdmError(
                f"{trained} has no VAE with a {name} like here; begin with one that has the same levels"
            )
        axes = HALVES.get(name.rpartition(".")[0], ())[: weight.ndim]
        mine, theirs = split_halves(weight, axes), split_halves(old[name], axes)
        if any(m < t for m, t in zip(mine.shape, theirs.shape, strict=True)):
            raise LdmError(
                f"{trained}: its VAE's {name} has the shape {list(old[name].shape)}, which cannot grow to "
                f"{list(weight.shape)}; begin with a VAE of no more channels"
            )
        if name == "encoder.quant_conv.bias":
            mine[1] = CERTAIN
        mine[tuple(slice(length) for length in theirs.shape)] = theirs


def split_halves(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A view in which each of the first axes named is two: which half, and where in it."""
    for axis in reversed(axes):
        x = x.unflatten(axis, (2, -1))
    return x
