r"""The images that ControlNets read: Canny's edges by hand, strokes, masks, and what cannot be made here."""

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.adapters.hints import (
    ELSEWHERE,
    canny,
    connected,
    expected_image,
    is_ridge,
    prepare_hint,
    scribble,
    sobel,
)
from ldm.errors import LdmError


def grey(rows) -> np.ndarray:
    return np.repeat(np.asarray(rows, dtype=np.uint8)[..., None], 3, axis=2)


def test_a_step_of_brightness_is_one_line_on_its_first_side():
    image = np.zeros((5, 6, 3), dtype=np.uint8)
    image[:, 3:] = 100  # g_x is 400 in the two columns beside the step: of equal ones the first is kept
    expected = np.zeros((5, 6), dtype=bool)
    expected[:, 2] = True
    assert (canny(image) == expected).all()
    assert (canny(image.transpose(1, 0, 2)) == expected.T).all()
    assert not canny(image, 100, 400).any()  # a threshold has to be exceeded
    assert canny(image, 100, 399).any()


def test_the_derivatives_of_a_ramp_are_eight_times_its_slope_and_pixels_repeat_at_the_border():
    gx, gy = sobel(grey([[0, 3, 6, 9]] * 3))
    assert (gx[..., 0] == [[12, 24, 24, 12]] * 3).all() and not gy.any()


def test_the_colour_that_changes_most_decides():
    image = np.zeros((5, 6, 3), dtype=np.uint8)
    image[:, 3:, 1] = 60  # its grey would change by less than the high threshold asks
    assert canny(image)[:, 2].all()


def test_a_ridge_is_sought_in_the_direction_of_the_gradient():
    magnitude = np.array([[1, 1, 1, 5], [1, 1, 4, 1], [1, 3, 1, 1], [2, 1, 1, 1]])
    down_right, down_left = np.full((4, 4), 9), np.full((4, 4), -9)
    across = is_ridge(magnitude, down_right, down_right)  # across the line of large ones
    assert across[1, 2] and across[2, 1]
    along = is_ridge(magnitude, down_left, down_right)
    assert not along[1, 2] and not along[2, 1] and along[0, 3]
    # 22.5 and 67.5 degrees part horizontal, diagonal and vertical.
    ridge = np.array([[9, 1, 1], [1, 5, 1], [1, 1, 9]])
    for gx, gy, found in ((100, 41, True), (100, 42, False), (100, 241, False), (100, 242, True)):
        assert is_ridge(ridge, np.full((3, 3), gx), np.full((3, 3), gy))[1, 1] == found


def test_weak_pixels_survive_only_in_touch_with_strong_ones():
    possible = np.array([[1, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]], dtype=bool)
    sure = np.zeros_like(possible)
    sure[0, 0] = True
    assert (connected(sure, possible) == [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]).all()


def test_canny_equals_its_definition_pixel_by_pixel():
    r"""Slowly, in floating point: three loops and the angle itself."""
    image = (255 * np.random.RandomState(0).rand(17, 13, 3)).astype(np.uint8)
    image[4:11, 3:9] //= 4
    height, width = image.shape[:2]
    gx, gy = (g.astype(float) for g in sobel(image))
    pick = (abs(gx) + abs(gy)).argmax(2)
    m = np.zeros((height + 2, width + 2))
    angle = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            x, y = gx[i, j, pick[i, j]], gy[i, j, pick[i, j]]
            m[i + 1, j + 1], angle[i, j] = abs(x) + abs(y), np.degrees(np.arctan2(y, x)) % 180
    kept = np.zeros((height, width), dtype=bool)
    for i in range(height):
        for j in range(width):
            a = angle[i, j]
            if a < 22.5 or a > 157.5:
                (dy, dx), strict = (0, 1), False
            elif 67.5 < a < 112.5:
                (dy, dx), strict = (1, 0), False
            else:
                (dy, dx), strict = (1, 1) if a < 90 else (1, -1), True
            here, before, after = (m[i + 1 + k * dy, j + 1 + k * dx] for k in (0, -1, 1))
            kept[i, j] = here > 300 and here > before and (here > after or (not strict and here == after))
    edges, grown = kept & (m[1:-1, 1:-1] > 600), True
    while grown:
        padded = np.pad(edges, 1)
        near = np.any([padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
                       for dy in (-1, 0, 1) for dx in (-1, 0, 1)], axis=0)  # fmt: skip
        grown = bool((near & kept & ~edges).any())
        edges |= near & kept
    found = canny(image, 300, 600)
    assert (found == edges).all() and found.any() and not found.all()


def test_a_scribble_is_white_where_the_drawing_is_dark_in_any_colour():
    image = np.full((2, 2, 3), 255, dtype=np.uint8)
    image[0, 0] = (200, 126, 200)
    image[1, 1] = 127
    assert (scribble(image) == [[True, False], [False, False]]).all()


def test_hints_are_rgb_in_0_to_1_in_their_order_and_fitted_to_the_size():
    image = Image.new("RGB", (4, 2), (255, 51, 0))
    for kind in (None, "tile"):
        hint = prepare_hint(kind, image, (4, 2))
        assert hint.shape == (1, 3, 2, 4) and hint[0, :, 0, 0].tolist() == [1.0, 0.2, 0.0]
    assert prepare_hint(None, image, (8, 8)).shape == (1, 3, 8, 8)
    drawing = Image.fromarray(grey([[0, 255], [255, 255]]))
    assert prepare_hint("scribble", drawing, (2, 2))[0].tolist() == [[[1, 0], [0, 0]]] * 3


def test_an_inpainting_hint_is_minus_one_where_the_mask_is_white():
    image, mask = Image.new("RGB", (2, 1), (255, 0, 0)), Image.new("L", (2, 1))
    mask.putpixel((1, 0), 255)
    hint = prepare_hint("inpaint", image, (2, 1), mask)
    assert torch.equal(hint[0, :, 0], torch.tensor([[1.0, -1], [0, -1], [0, -1]], dtype=hint.dtype))


@pytest.mark.parametrize(
    ("kind", "mask", "message"),
    [
        *((kind, False, f"'{kind}' needs a network that is not part of this package") for kind in ELSEWHERE),
        ("cany", False, "cannot prepare 'cany'; expected one of canny, scribble, tile, inpaint, or nothing"),
        ("inpaint", False, "of the kind 'inpaint' without a mask"),
        ("tile", True, "of the kind 'tile' with a mask"),
    ],
)
def test_what_cannot_be_prepared_is_an_error_that_says_what_to_do(kind, mask, message):
    image = Image.new("RGB", (2, 2))
    with pytest.raises(LdmError, match=message):
        prepare_hint(kind, image, (2, 2), image.convert("L") if mask else None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("control_v11p_sd15_canny.pth", "white edges on black (--control-prepare canny makes it)"),
        ("control_v11f1p_sd15_depth.pth", "a depth map, near is white, which another program has to make"),
        ("control_v11p_sd15_normalbae.pth", "a map of surface normals"),
        ("mine.safetensors", None),
    ],
)
def test_a_files_name_tells_which_image_it_wants(name, words):
    found = expected_image(name)
    assert found == words or (words and found.startswith(words))
