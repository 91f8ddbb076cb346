r"""The Frechet distance of two Gaussians: in one dimension by hand, in many by numpy's own eigenvalues."""

import numpy as np
import pytest
import torch

from ldm.errors import LdmError
from ldm.lab.evaluate.frechet import frechet_distance


def test_in_one_dimension_it_is_the_gap_of_means_and_of_deviations():
    a = torch.tensor([[0.0], [2.0]])  # mean 1, deviation sqrt(2)
    b = torch.tensor([[3.0], [5.0], [10.0]])  # mean 6, deviation sqrt(13)
    assert frechet_distance(a, b) == pytest.approx((6 - 1) ** 2 + (13**0.5 - 2**0.5) ** 2, abs=1e-12)


def test_it_is_the_closed_form_with_the_root_of_the_product():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(70, 6)) + 0.3
    roots = np.sqrt(np.linalg.eigvals(np.cov(a.T) @ np.cov(b.T)).real)  # of the product itself, not symmetric
    gap = ((a.mean(0) - b.mean(0)) ** 2).sum()
    expected = gap + np.trace(np.cov(a.T)) + np.trace(np.cov(b.T)) - 2 * roots.sum()
    assert frechet_distance(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected, rel=1e-9)


def test_a_crowd_is_at_distance_zero_from_itself_and_a_shift_counts_squared(draw):
    a = draw(40, 5)
    shift = torch.tensor([3.0, 0, 4, 0, 0])
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + shift) == pytest.approx(25, abs=1e-9)


def test_fewer_pictures_than_features_are_no_trouble(draw):
    a, b = draw(4, 9), draw(5, 9)
    assert 0 < frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)  # roots of rounding


def test_one_picture_has_no_covariance():
    with pytest.raises(LdmError, match="at least 2"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))
