"""Start training a VAE from a trained one with fewer channels.

A narrower VAE has already learned most of what a wider one has to learn. Where a tensor is larger, the old one becomes
its first rows and columns, and the rest keeps its random initialisation. (Net2Net, by Chen et al. 2016, chooses the new
numbers so that the network computes the same; here training soon makes up for the difference.)

The encoder's last layers compute means and log-variances, one half after the other, so each half grows by itself. The
biases of the new log-variances start at `CERTAIN`, almost without noise: with the usual 0, the decoder would learn to
ignore the new channels.
"""

from pathlib import Path

import torch
from torch import Tensor

from ldm.checkpoints.folder import read_tensors
from ldm.errors import LdmError
from ldm.vae.vae import VAE

CERTAIN = -6.0  # a standard deviation of 0.05
# The axes that hold means, then log-variances
HALVES = {"encoder.conv_out": (0,), "encoder.quant_conv": (0, 1)}


@torch.no_grad()
def grow(vae: VAE, trained: Path) -> None:
    """Give `vae` the weights of the narrower VAE of the model in the folder `trained`, in place.

    Raises `LdmError` if that VAE has other layers, or more channels anywhere.
    """
    old = read_tensors(trained / "vae.safetensors", torch.get_default_dtype())
    new = vae.state_dict()
    if other := sorted(old.keys() ^ new.keys()):
        raise LdmError(
            f"{trained} has a VAE of other layers ({other[0]} is only in one); start from one with the same levels"
        )
    for name, weight in new.items():
        had, has = list(old[name].shape), list(weight.shape)
        axes = HALVES.get(name.rpartition(".")[0], ())[: weight.ndim]
        if len(had) != len(has) or any(a > b for a, b in zip(had, has)) or any(had[a] % 2 for a in axes):
            raise LdmError(
                f"{trained}: its VAE's {name} has the shape {had}, which cannot grow to {has}; "
                "start from a VAE of no more channels"
            )
        mine, theirs = split_halves(weight, axes), split_halves(old[name], axes)
        if name == "encoder.quant_conv.bias":
            mine[1] = CERTAIN
        mine[tuple(slice(length) for length in theirs.shape)] = theirs


def split_halves(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A view of x in which each of `axes` is split in two: which half, and the position in that half."""
    for axis in reversed(axes):
        x = x.unflatten(axis, (2, -1))
    return x
