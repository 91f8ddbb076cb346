r"""Diversity: does one prompt give many different images? And are they new, or copies of training images?

How it can mislead you: noise is diverse, and so are wrong images, so the number means something only beside adherence.
A full caption says nothing of a clear sky or a flat horizon; a model that adds rain or mountains there varies more from
seed to seed than drawings of the scene do. A nearest neighbour in pixel space agrees in large areas (a sky, a wall);
whether the rest was copied is for you to see on the sheet. Blurred images are near to everything, so a low ratio may
show softness rather than copying.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ldm.errors import LdmError

THUMBNAIL = 32  # the side in pixels when images are compared in pixel space


def mean_pairwise_distance(features: Float[Tensor, "n d"]) -> float:
    r"""$\frac{2}{n(n-1)} \sum_{i<j} \lVert f_i - f_j \rVert$. Raises `LdmError` for fewer than two."""
    if len(features) < 2:
        raise LdmError(f"{len(features)} feature vectors; a distance needs at least 2")
    return F.pdist(features.double()).mean().item()


def thumbnails(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
    r"""Square images as vectors of 32 x 32 pixels, which keep positions and colours but no details."""
    small = F.interpolate(pixels, (THUMBNAIL, THUMBNAIL), mode="bilinear", antialias=True)
    return small.flatten(1)


def nearest(queries: Float[Tensor, "n d"], library: Float[Tensor, "m d"]) -> tuple[Int[Tensor, "n"], Tensor]:
    r"""For each query, the index of the nearest vector of the library and the distance to it."""
    distances, indices = torch.cdist(queries, library).min(dim=1)
    return indices, distances


def memorisation_ratio(
    generated: Float[Tensor, "n d"], drawn: Float[Tensor, "k d"], library: Float[Tensor, "m d"]
) -> float:
    r"""The mean distance of generated images to the nearest training drawing, as a multiple of that of new drawings.

    A model that has learned the distribution reaches 1, one that always copies a training image 0. It is a mean: one
    that copies every twentieth image still reaches 0.95.
    """
    ours, theirs = (nearest(some, library)[1].mean() for some in (generated, drawn))
    return (ours / theirs).item()


def rarer_side(sides: Sequence[str]) -> float:
    r"""The fraction, at most a half, of the rarer of "left" and "right"; other answers do not count. 0 of none."""
    left, right = sides.count("left"), sides.count("right")
    return min(left, right) / max(left + right, 1)
