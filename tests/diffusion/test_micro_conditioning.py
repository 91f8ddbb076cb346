r"""The numbers that Stable Diffusion XL is told: their order, their defaults, and what no image has."""

import pytest

from ldm.diffusion.micro_conditioning import MicroConditioning
from ldm.errors import LdmError


def test_the_height_comes_before_the_width_and_the_top_before_the_left():
    micro = MicroConditioning(original_size=(768, 1024), crop=(7, 5), target_size=(800, 900))
    assert micro.values((64, 32), 6).tolist() == [[1024, 768, 5, 7, 900, 800]]


def test_what_is_not_said_is_the_size_generated_without_a_crop():
    assert MicroConditioning().values((1152, 896), 6).tolist() == [[896, 1152, 0, 0, 896, 1152]]


def test_a_refiner_is_told_a_score_which_is_low_for_the_negative_prompt():
    plain = MicroConditioning()
    assert plain.values((1152, 896), 5).tolist() == [[896, 1152, 0, 0, 6]]
    assert plain.values((1152, 896), 5, negative=True).tolist() == [[896, 1152, 0, 0, 2.5]]
    assert MicroConditioning(aesthetic_score=9.0).values((8, 8), 5, negative=True).tolist() == [
        [8, 8, 0, 0, 9]
    ]


@pytest.mark.parametrize(
    ("micro", "count", "message"),
    [
        (MicroConditioning(original_size=(0, -1)), 6, "expected numbers from 0 to 65,536"),
        (MicroConditioning(aesthetic_score=float("nan")), 5, "expected numbers from 0 to 65,536"),
        (MicroConditioning(aesthetic_score=6.0), 6, "only a refiner is told"),
        (MicroConditioning(target_size=(8, 8)), 5, "which this model is not told"),
    ],
)
def test_numbers_that_no_image_has_and_those_the_model_is_not_told_are_errors(micro, count, message):
    with pytest.raises(LdmError, match=message):
        micro.values((8, 8), count)
