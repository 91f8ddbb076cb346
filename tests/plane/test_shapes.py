r"""Drawings as rows of Gaussians."""

import pytest
import torch

from ldm.diffusion.level import CLEAN
from ldm.errors import LdmError
from ldm.plane.mixture import join
from ldm.plane.shapes import LINE_STD, SHAPES, line


def test_a_line_has_its_gaussians_one_deviation_apart_around_the_corner():
    bent = line(torch.tensor([[0.0, 0.0], [0.3, 0.0], [0.3, 0.4]]), std=0.1)
    expected = [(0.1 * i, 0.0) for i in range(4)] + [(0.3, 0.1 * i) for i in range(1, 5)]
    torch.testing.assert_close(bent.means, torch.tensor(expected))


def test_the_density_along_a_line_has_no_gaps():
    straight = line(torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64))
    middle = torch.stack([torch.linspace(-0.5, 0.5, 999), torch.zeros(999)], dim=-1).double()
    density = straight.log_density(middle, CLEAN)
    assert density.max() - density.min() < 1e-6


def test_points_given_twice_do_no_harm_and_a_single_point_is_no_line():
    twice = line(torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.6, 0.0], [0.6, 0.0]]))
    assert twice.means.isfinite().all() and len(twice.means) == 11
    with pytest.raises(LdmError, match="a line of length 0.0; expected two different points"):
        line(torch.zeros(2, 2))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_shape_is_about_as_wide_as_the_noise(shape):
    whole = join(*shape())
    assert whole.means.norm(dim=-1).max() < 2
    assert 0.5 < whole.means.std() < 1.5
    assert whole.std == (0.3 if shape.__name__ == "clouds" else LINE_STD)
