r"""How much each part of a drawing counts in the U-Net's loss."""

import numpy as np
import pytest

from ldm.postcards import Box
from ldm.train.importance import importance

HAT = Box("hat", 0.25, 0.0, 0.75, 0.375)


def test_a_box_covers_cells_in_part():
    # Of 2 x 4 cells: the two columns in the middle; of the rows the upper one by three quarters.
    np.testing.assert_allclose(HAT.coverage(2, 4), [[0, 0.75, 0.75, 0], [0, 0, 0, 0]])
    for shape in ((3, 5), (16, 16), (1, 1)):
        assert HAT.coverage(*shape).mean() == pytest.approx(0.5 * 0.375)


def test_a_thing_counts_as_a_quarter_of_the_image_whatever_its_size():
    small, large = Box("boat", 0.0, 0.0, 0.25, 0.5), Box("dog", 0.5, 0.0, 1.0, 1.0)
    for some, inside in ((small, np.s_[:8, :4]), (large, np.s_[:, 8:])):
        found = importance([some], 16)
        area = found[inside].size / 256
        assert found.mean() == pytest.approx(1)
        # The image itself counts 1, and the thing 1/4 on top.
        assert found[inside].sum() / 256 == pytest.approx((area + 0.25) / 1.25)
        assert len(np.unique(found.round(9))) == 2  # inside, and outside


def test_where_things_overlap_both_count():
    both = importance([Box("dog", 0.0, 0.0, 1.0, 0.5), Box("hat", 0.0, 0.0, 0.5, 0.5)], 4)
    # 1 + 4 / 8 for the dog and 4 / 4 for the hat, over a mean of 1.5
    np.testing.assert_allclose(both * 1.5, [[2.5, 2.5, 1.5, 1.5]] * 2 + [[1, 1, 1, 1]] * 2)


def test_the_tiniest_does_not_take_everything_and_places_count_as_usual():
    tiny = importance([Box("flower", 0.0, 0.0, 1 / 16, 1 / 16)], 16)
    assert tiny[0, 0] / tiny[1, 1] == pytest.approx(5)
    assert (importance([Box("lake", 0.0, 0.5, 1.0, 1.0), Box("sun", 0.1, 0.1, 0.2, 0.2)], 8) == 1).all()
    assert (importance([], 8) == 1).all()
