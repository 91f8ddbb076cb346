r"""Image to image: which steps are left, and which options belong together."""

import pytest
from PIL import Image

from ldm.diffusion.level import CLEAN, Level
from ldm.diffusion.spacing import spaced_timesteps
from ldm.errors import LdmError
from ldm.image_to_image import last_levels, pick_strength

PICTURE = Image.new("RGB", (8, 8))


def levels(steps: int) -> list[Level]:
    return [*(Level(t, 0.6, 0.8) for t in spaced_timesteps(steps, 1000)), CLEAN]


def first(steps: int, strength: float) -> tuple[int, int]:
    left = last_levels(levels(steps), strength)
    return len(left) - 1, left[0].t


@pytest.mark.parametrize(
    ("steps", "strength", "expected"),
    [
        # 20 steps are t = 951, 901, ..., 51, 1.
        (20, 1.0, (20, 951)),
        (20, 0.75, (15, 701)),
        (20, 0.79, (15, 701)),  # 15.8 is rounded down
        (20, 0.05, (1, 1)),
        (50, 0.8, (40, 781)),
        (1, 1.0, (1, 1)),
    ],
)
def test_the_last_levels_by_hand(steps, strength, expected):
    assert first(steps, strength) == expected


def test_the_last_levels_are_the_last_ones_in_order():
    steps = levels(4)
    assert last_levels(steps, 0.5) == steps[2:] and [level.t for level in steps[2:]] == [251, 1, 0]


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.01, float("nan"), float("inf")])
def test_a_strength_outside_0_to_1_is_an_error(strength):
    with pytest.raises(LdmError, match=r"expected more than 0 \(unchanged\), at most 1 \(all new\)"):
        first(20, strength)


def test_a_strength_that_leaves_no_step_is_an_error_whose_advice_works():
    with pytest.raises(LdmError, match=r"0\.04 leaves none of 20 steps; give at least 0\.05, or more steps"):
        first(20, 0.04)
    for steps in (2, 3, 6, 7, 11, 30, 49, 333, 667, 999):
        with pytest.raises(LdmError, match="leaves none") as caught:
            first(steps, 0.5 / steps)
        advice = float(str(caught.value).split("at least ")[1].split(",")[0])
        assert first(steps, advice)[0] >= 1


@pytest.mark.parametrize(
    ("init", "strength", "mask", "expected"),
    [
        (None, None, None, 1.0),
        (PICTURE, None, None, 0.75),
        (PICTURE, None, PICTURE, 1.0),
        (PICTURE, 0.3, None, 0.3),
        (PICTURE, 0.3, PICTURE, 0.3),
    ],
)
def test_the_usual_strength(init, strength, mask, expected):
    assert pick_strength(init, strength, mask, keep_pixels=False) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, None, PICTURE, False), "a mask, but no init image; expected `init`"),
        ((None, 0.5, None, False), "a strength of 0.5, but no init image; expected `init`"),
        ((None, None, None, True), "keep_pixels, but no mask; expected `mask`"),
        ((PICTURE, None, None, True), "keep_pixels, but no mask; expected `mask`"),
    ],
)
def test_an_option_without_what_it_belongs_to_is_an_error(given, message):
    with pytest.raises(LdmError, match=message):
        pick_strength(*given)
