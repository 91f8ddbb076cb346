r"""CLIP's image encoder, and how a picture is prepared for it."""

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.config import CLIP_L_IMAGE, ImageConfig
from ldm.images.pixels import to_pixels
from ldm.text.image import MEAN, STD, ImageEncoder, preprocess, preprocess_pixels, standardise

SMALL = ImageConfig(8, patch=4, width=8, layers=2, heads=2, activation="gelu")
TIGHT = {"rtol": 0, "atol": 1e-12}


def test_standardise_by_hand():
    # -1, 0 and 1 are 0, 1/2 and 1 in [0, 1]; red: (0.5 - 0.48145466) / 0.26862954 = 0.06903686.
    pixels = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).expand(1, 3, 1, 3)
    out = standardise(pixels)
    assert out[0, 0, 0, 1].item() == pytest.approx(0.06903686, abs=1e-8)
    for channel, (mean, std) in enumerate(zip(MEAN, STD)):
        expected = torch.tensor([-mean / std, (0.5 - mean) / std, (1 - mean) / std], dtype=torch.float64)
        torch.testing.assert_close(out[0, channel, 0], expected, **TIGHT)


def stripes(widths, colours, height):
    r"""Vertical bands of the given widths."""
    row = np.concatenate([np.full((w, 3), c, dtype=np.uint8) for w, c in zip(widths, colours)])
    return Image.fromarray(np.broadcast_to(row, (height, *row.shape)).copy())


@pytest.mark.parametrize("turn", [False, True])
def test_the_centre_is_kept_and_both_ends_are_cut(turn):
    # 12 wide and 4 high, for size 4: no resizing, and the middle four columns (5 to 8) stay.
    image = stripes([4, 4, 4], [0, 200, 50], height=4)
    image = image.transpose(Image.Transpose.ROTATE_90) if turn else image
    expected = standardise(torch.full((1, 3, 4, 4), 200 / 127.5 - 1))
    torch.testing.assert_close(preprocess([image], 4), expected)


def test_the_short_side_is_resized_and_the_long_one_follows():
    # 24 x 8 for size 4: half as large, 12 x 4; then the middle. Flat bands stay flat away from their edges.
    image = stripes([8, 8, 8], [0, 200, 50], height=8)
    out = preprocess([image], 4)
    expected = standardise(torch.full((1, 3, 4, 2), 200 / 127.5 - 1))
    torch.testing.assert_close(out[..., 1:3], expected, rtol=0, atol=0.05)


def test_pictures_of_any_size_and_mode_come_out_alike():
    images = [
        Image.new("RGB", (31, 17), "white"),
        Image.new("L", (5, 9), 255),
        Image.new("RGBA", (8, 8), "white"),
    ]
    out = preprocess(images, 8)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, standardise(torch.ones(3, 3, 8, 8)))


@pytest.mark.parametrize("size", [16, 40, 23])
def test_tensors_are_resized_as_pictures_are(size):
    r"""By another code than Pillow's, and without its rounding to whole grey levels: 2 of 255 may differ."""
    noise = np.random.default_rng(0).uniform(
        90, 160, (40, 40, 3)
    )  # far from 0 and 255, where Pillow cuts off
    image = Image.fromarray(noise.astype(np.uint8))
    out = preprocess_pixels(to_pixels([image]), size)
    assert out.shape == (1, 3, size, size)
    difference = (out - preprocess([image], size)).abs().max()
    assert difference <= (0 if size == 40 else 2 / 255 / min(STD))


@pytest.mark.parametrize("shape", [(40, 24), (24, 40)])
def test_tensors_that_are_not_square_are_cropped_in_the_centre_as_pictures_are(shape):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    torch.testing.assert_close(preprocess_pixels(to_pixels([image]), 24), preprocess([image], 24))


def test_clip_l_has_its_published_size():
    with torch.device("meta"):
        encoder = ImageEncoder(CLIP_L_IMAGE)
    projection = 1024 * 768
    assert sum(p.numel() for p in encoder.parameters()) + projection == 303_966_208
    assert encoder.position_embedding.num_embeddings == 16 * 16 + 1


def test_the_encoder_equals_a_hand_written_one(draw, randomise):
    encoder, pixels = randomise(ImageEncoder(SMALL)), draw(2, 3, 8, 8)
    w = encoder.patch_embedding.weight.flatten(1)
    # The four patches in reading order, each flattened (colour, row, column), through one linear map.
    patches = [pixels[:, :, i : i + 4, j : j + 4].flatten(1) @ w.T for i in (0, 4) for j in (0, 4)]
    x = torch.stack([encoder.class_embedding.expand(2, 8), *patches], dim=1)
    x = encoder.norm_in(x + encoder.position_embedding.weight)
    for layer in encoder.layers:  # CLIP's layer has its own test
        x = layer(x, causal=False)
    expected = encoder.norm_out(x)[:, 0]
    torch.testing.assert_close(encoder(pixels), expected, **TIGHT)


def test_every_patch_is_seen_and_its_place_matters(draw, randomise):
    encoder, pixels = randomise(ImageEncoder(SMALL)), draw(1, 3, 8, 8)
    out = encoder(pixels)
    for i, j in [(0, 0), (0, 4), (4, 0), (4, 4)]:
        changed = pixels.clone()
        changed[..., i : i + 4, j : j + 4] = 0
        assert not torch.allclose(encoder(changed), out)
    assert not torch.allclose(encoder(pixels.roll(4, dims=-1)), out)


def test_without_positions_the_patches_are_a_bag(draw, randomise):
    encoder, pixels = randomise(ImageEncoder(SMALL)), draw(1, 3, 8, 8)
    encoder.position_embedding.weight.data[1:] = 0
    torch.testing.assert_close(encoder(pixels.roll(4, dims=-1)), encoder(pixels), **TIGHT)


def test_a_picture_does_not_depend_on_its_batch(draw, randomise):
    encoder, pixels = randomise(ImageEncoder(SMALL)), draw(3, 3, 8, 8)
    torch.testing.assert_close(encoder(pixels)[2:], encoder(pixels[2:]), **TIGHT)


def test_a_picture_of_another_size_is_an_error(draw):
    with pytest.raises(RuntimeError):
        ImageEncoder(SMALL).double()(draw(1, 3, 12, 12))
