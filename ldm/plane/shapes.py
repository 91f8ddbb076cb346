r"""Drawings as data: a line is a row of narrow Gaussians.

The Gaussians stand one standard deviation apart, so the line has no gaps: along it the density varies by less than one
part in a million. Each shape is a tuple of parts, and its parts are what a prompt can ask for: "the left moon", "the
eyes". All fit into a circle of radius 2, about as wide as the noise that they are drowned in.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError
from ldm.plane.mixture import Mixture, join

LINE_STD = 0.06  # half the thickness of a drawn line
CLOUD_STD = 0.3


def line(points: Float[Tensor, "n 2"], std: float = LINE_STD) -> Mixture:
    """The line through these points, at least two, as Gaussians `std` apart. Raises `LdmError` if it has no length."""
    lengths = (points[1:] - points[:-1]).norm(dim=-1)
    points, lengths = torch.cat([points[:1], points[1:][lengths > 0]]), lengths[lengths > 0]
    total = lengths.sum().item()
    if not total > 0:
        raise LdmError(f"a line of length {total}; expected two different points")
    ends = torch.cat([lengths.new_zeros(1), lengths.cumsum(dim=0)])  # how far along the line each point is
    places = torch.linspace(0, total, max(2, round(total / std) + 1), dtype=points.dtype)
    segment = torch.searchsorted(ends, places, right=True).clamp(1, len(points) - 1) - 1
    fraction = (places - ends[segment]) / lengths[segment]
    return Mixture(points[segment] + fraction[:, None] * (points[segment + 1] - points[segment]), std)


def curve(at: Callable[[Tensor], tuple[Tensor, Tensor]], pieces: int = 200) -> Mixture:
    """The line of the points `at(u)`, with u from 0 to 1."""
    x, y = at(torch.linspace(0, 1, pieces + 1))
    return line(torch.stack([x, y], dim=-1))


def arc(x: float, y: float, radius: float, start: float, end: float) -> Mixture:
    """A part of a circle around (x, y), counterclockwise between two angles in turns: 0 is to the right, 0.25 up."""

    def at(u: Tensor) -> tuple[Tensor, Tensor]:
        angle = 2 * math.pi * (start + u * (end - start))
        return x + radius * angle.cos(), y + radius * angle.sin()

    return curve(at)


def clouds() -> tuple[Mixture, ...]:
    """Three Gaussians, the corners of a triangle."""
    angles = [0.25 + i / 3 for i in range(3)]
    corners = [(1.4 * math.cos(2 * math.pi * a), 1.4 * math.sin(2 * math.pi * a)) for a in angles]
    return tuple(Mixture(torch.tensor([corner]), CLOUD_STD) for corner in corners)


def moons() -> tuple[Mixture, ...]:
    """Two half circles that reach into one another."""
    return arc(-0.55, -0.3, 1.15, 0.0, 0.5), arc(0.55, 0.3, 1.15, 0.5, 1.0)


def spiral() -> tuple[Mixture, ...]:
    """A spiral, its inner and its outer turn."""

    def turns(start: float, end: float) -> Mixture:
        def at(u: Tensor) -> tuple[Tensor, Tensor]:
            turn = start + u * (end - start)
            return turn * (2 * math.pi * turn).cos(), turn * (2 * math.pi * turn).sin()

        return curve(at)

    return turns(0.3, 1.15), turns(1.15, 1.9)


def face() -> tuple[Mixture, ...]:
    """A smiling face: the outline, the eyes, the mouth."""
    eyes = join(arc(-0.6, 0.5, 0.18, 0.0, 1.0), arc(0.6, 0.5, 0.18, 0.0, 1.0))
    return arc(0.0, 0.0, 1.75, 0.0, 1.0), eyes, arc(0.0, 0.0, 1.0, 0.56, 0.94)


SHAPES: dict[str, Callable[[], tuple[Mixture, ...]]] = {
    shape.__name__: shape for shape in (clouds, moons, spiral, face)
}
