r"""Diversity and neighbours: distances by hand."""

import pytest
import torch

from ldm.errors import LdmError
from ldm.lab.evaluate.diversity import (
    mean_pairwise_distance,
    memorisation_ratio,
    nearest,
    rarer_side,
    thumbnails,
)


def test_the_mean_pairwise_distance_of_a_triangle():
    assert mean_pairwise_distance(torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])) == pytest.approx(
        4
    )  # 3, 4, 5


def test_equal_pictures_have_no_diversity_and_one_picture_is_refused():
    assert mean_pairwise_distance(torch.ones(5, 3)) == 0
    with pytest.raises(LdmError, match="at least 2"):
        mean_pairwise_distance(torch.ones(1, 3))


def test_the_nearest_of_a_library():
    library = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 5.0]])
    indices, distances = nearest(torch.tensor([[9.0, 0.0], [0.0, 3.0]]), library)
    assert indices.tolist() == [1, 2]
    torch.testing.assert_close(distances, torch.tensor([1.0, 2.0]))


def test_a_thumbnail_keeps_places_and_colours_but_no_detail():
    picture = torch.zeros(1, 3, 64, 64)
    picture[:, 0, :, 32:] = 1.0  # the right half is red
    picture[:, 1] = torch.tensor([1.0, -1.0]).repeat(32)  # stripes, one pixel wide
    small = thumbnails(picture).reshape(3, 32, 32)
    torch.testing.assert_close(small[0, :, :15], torch.zeros(32, 15))
    torch.testing.assert_close(small[0, :, 17:], torch.ones(32, 15))
    assert small[1, :, 1:-1].abs().max() < 0.3


def test_memorisation_compares_the_distances_to_the_nearest_training_drawing():
    library = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    drawn = torch.tensor([[0.0, 2.0], [10.0, 4.0]])  # 2 and 4 away: 3 on average
    copies = library.clone()
    generated = torch.tensor([[1.0, 0.0], [8.0, 0.0]])  # 1 and 2 away
    assert memorisation_ratio(generated, drawn, library) == pytest.approx(1 / 2)
    assert memorisation_ratio(copies, drawn, library) == 0 and memorisation_ratio(drawn, drawn, library) == 1


def test_the_rarer_side_is_at_most_a_half_and_a_hidden_sun_is_on_none():
    assert rarer_side(["left", "right", "left", "hidden", "left"]) == pytest.approx(1 / 4)
    assert rarer_side(["left", "right"] * 4) == 1 / 2
    assert rarer_side(["right"] * 4) == 0 == rarer_side(["hidden"])
