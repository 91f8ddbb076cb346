r"""The way back from `ldm.backend.accelerate`."""

from torch import nn

from ldm.backend.accelerate import FASTER, Network


def plain(network: Network, *kinds: type[nn.Module]) -> Network:
    r"""Undo `accelerate` for these plain classes, or for all if none are named; returns the same network."""
    slower = {FASTER[kind]: kind for kind in kinds or FASTER}
    for part in network.modules():
        part.__class__ = slower.get(type(part), type(part))
    return network
