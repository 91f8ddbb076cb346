r"""Numbers as small pictures: what `outputs.py` shows on the annotated pages.

A feature map has many channels and a picture three: `principal` shows the three directions in which the positions of a
map differ most as red, green and blue, so positions of one colour are alike to the network.
"""

from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Tile:
    """A picture and the words below it: `label`, and a shape or a number in small print."""

    image: Image.Image
    label: str
    small: str = ""


def shape(x: Tensor) -> str:
    """Without the batch: 256 × 4 × 4."""
    return " × ".join(str(n) for n in x.shape[1:])


def principal(x: Tensor) -> Image.Image:
    """A feature map [1, c, h, w] as colours: its three principal components over the positions."""
    _, c, h, w = x.shape
    points = x[0].double().reshape(c, h * w).T
    points = points - points.mean(0)
    _, _, directions = torch.linalg.svd(points, full_matrices=False)
    found = points @ directions[:3].T
    found = (
        found * found[found.abs().argmax(0), range(found.shape[1])].sign()
    )  # the sign of a direction is arbitrary
    low, high = found.quantile(0.02, 0), found.quantile(0.98, 0)
    return from_grey(((found - low) / (high - low)).clamp(0, 1).reshape(h, w, -1).numpy())


def heat(x: Tensor, colours: str = "magma") -> Image.Image:
    """Numbers [h, w] as colours, from the smallest to the largest."""
    low, high = x.min(), x.max()
    return from_grey(matplotlib.colormaps[colours](((x - low) / (high - low)).double().numpy())[..., :3])


def signed(x: Tensor) -> Image.Image:
    """Numbers [h, w] as colours: zero is in the middle, and the largest is as far from it as its opposite."""
    return from_grey(matplotlib.colormaps["RdBu_r"]((x / x.abs().max() / 2 + 0.5).double().numpy())[..., :3])


def from_grey(x: np.ndarray) -> Image.Image:
    return Image.fromarray((255 * x).round().astype(np.uint8))
