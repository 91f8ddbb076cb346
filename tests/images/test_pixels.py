r"""Between 8-bit pictures and [-1, 1]."""

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.errors import LdmError
from ldm.images.pixels import to_images, to_pixels


def grey(value: float) -> torch.Tensor:
    return torch.full((1, 3, 1, 1), value)


@pytest.mark.parametrize(("byte", "pixel"), [(0, -1.0), (51, -0.6), (255, 1.0)])
def test_bytes_to_pixels_by_hand(byte, pixel):
    # 51 / 127.5 - 1 = 0.4 - 1 = -0.6
    pixels = to_pixels([Image.new("RGB", (1, 1), (byte, byte, byte))])
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels, grey(pixel))


@pytest.mark.parametrize(
    ("pixel", "byte"),
    [
        (-0.6, 51),  # (-0.6 / 2 + 0.5) * 255 = 0.2 * 255
        (2 * 100.6 / 255 - 1, 101),  # rounded, where cutting off would give 100
        (2 * 100.4 / 255 - 1, 100),
        (1.7, 255),  # overshoot is clipped
        (-3.0, 0),
    ],
)
def test_pixels_to_bytes_by_hand(pixel, byte):
    [image] = to_images(grey(pixel))
    assert image.getpixel((0, 0)) == (byte, byte, byte)


def test_all_bytes_survive_the_round_trip():
    array = np.arange(256 * 3, dtype=np.uint32).reshape(16, 16, 3) % 256
    image = Image.fromarray(array.astype(np.uint8))
    [back] = to_images(to_pixels([image]))
    np.testing.assert_array_equal(np.asarray(back), array)


def test_rows_are_rows_and_red_comes_first():
    image = Image.new("RGB", (5, 3))  # width 5, height 3
    image.putpixel((4, 1), (255, 0, 0))  # x = 4, y = 1
    pixels = to_pixels([image, Image.new("RGB", (5, 3))])
    assert pixels.shape == (2, 3, 3, 5)
    assert (pixels == 1).nonzero().tolist() == [[0, 0, 1, 4]]
    first, second = to_images(pixels)
    assert first.size == (5, 3) and first.getpixel((4, 1)) == (255, 0, 0)
    assert second.getcolors() == [(15, (0, 0, 0))]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_any_mode_is_read_as_rgb(mode):
    white = Image.new("RGB", (2, 2), (255, 255, 255)).convert(mode)
    torch.testing.assert_close(to_pixels([white]), torch.ones(1, 3, 2, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_pixels_of_any_dtype_and_with_a_gradient_become_pictures(dtype):
    [image] = to_images(torch.ones(1, 3, 2, 2, dtype=dtype, requires_grad=True))
    assert image.getpixel((1, 1)) == (255, 255, 255)


def test_the_pixels_handed_over_stay_as_they_were():
    pixels = torch.tensor([3.0, -3.0, 0.25]).reshape(1, 3, 1, 1)
    before = pixels.clone()
    to_images(pixels)
    assert torch.equal(pixels, before)


def test_pictures_of_two_sizes_are_an_error():
    with pytest.raises(LdmError, match=r"sizes \[\(2, 2\), \(3, 2\)\]; expected"):
        to_pixels([Image.new("RGB", (2, 2)), Image.new("RGB", (3, 2))])
