r"""Tiles: weights that sum to one, local operations exactly as on the whole image, and no seams in the others."""

import pytest
import torch
import torch.nn.functional as F

from ldm.config import VAEConfig
from ldm.errors import LdmError
from ldm.vae.tiles import (
    blend_weights,
    decode_in_tiles,
    encode_in_tiles,
    fixed_statistics,
    in_tiles,
    must_tile,
    subsample,
    tile_starts,
)
from ldm.vae.vae import VAE

SMALL = VAEConfig(channels=(4, 8), res_per_level=1, latent_channels=2, scale=0.25, groups=2)
TIGHT = {"rtol": 0, "atol": 1e-12}


@pytest.fixture
def vae(randomise) -> VAE:
    return randomise(VAE(SMALL))


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "expected"),
    [
        (10, 4, 1, [0, 3, 6]),
        (4, 4, 1, [0]),
        (3, 4, 1, [0]),
        (5, 4, 1, [0, 1]),
        (11, 4, 1, [0, 2, 4, 7]),  # three strides of 3 would reach 13: they are shortened
        (128, 64, 16, [0, 32, 64]),
    ],
)
def test_tiles_begin_where_they_should(length, tile, overlap, expected):
    assert tile_starts(length, tile, overlap) == expected


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(30, 8, 2), (17, 8, 5), (9, 8, 0), (8, 8, 3), (100, 7, 6)]
)
def test_tiles_cover_a_side_and_overlap_enough(length, tile, overlap):
    places = tile_starts(length, tile, overlap)
    assert places[0] == 0 and places[-1] + tile == length
    assert all(0 < b - a <= tile - overlap for a, b in zip(places, places[1:], strict=False))
    total = torch.zeros(length, dtype=torch.float64)
    for start, weights in zip(places, blend_weights(places, length, tile, overlap), strict=True):
        total[start : start + tile] += weights
    torch.testing.assert_close(total, torch.ones_like(total), **TIGHT)


def test_blend_weights_by_hand():
    # Two tiles of 4 over 6 places; ramps 1 2 2 1 from 0 and from 2, so in the middle 2 meets 1, and 1 meets 2.
    first, second = blend_weights([0, 2], length=6, tile=4, overlap=2)
    assert first.tolist() == pytest.approx([1, 1, 2 / 3, 1 / 3]) and second.tolist() == first.flip(0).tolist()


@pytest.mark.parametrize("size", [(16, 16), (9, 23), (3, 11), (1, 1)])
def test_what_looks_only_at_its_place_is_the_same_in_tiles(draw, size):
    x = draw(1, 2, *size)

    def grow(z):
        return F.interpolate(z.sin(), scale_factor=3, mode="nearest")

    torch.testing.assert_close(in_tiles(grow, x, (1, 3), tile=5, overlap=2), grow(x), **TIGHT)

    def shrink(z):
        return F.avg_pool2d(z.sin(), 3)

    wide = grow(x)
    torch.testing.assert_close(in_tiles(shrink, wide, (3, 1), tile=5, overlap=2), shrink(wide), **TIGHT)


def test_a_picture_no_larger_than_a_tile_is_decoded_and_encoded_as_ever(vae, draw):
    latent, pixels = draw(2, 2, 5, 7), draw(2, 3, 10, 14)
    torch.testing.assert_close(decode_in_tiles(vae, latent, 7, 2), vae.decode(latent), **TIGHT)
    for ours, whole in zip(encode_in_tiles(vae, pixels, 7, 2), vae.encode(pixels), strict=True):
        torch.testing.assert_close(ours, whole, **TIGHT)


def smooth(draw, channels, height, width):
    r"""Something like a picture: no noise, whose every tile has about the statistics of the whole."""
    return F.interpolate(draw(1, channels, 9, 9), (height, width), mode="bicubic") / 2


def jump(picture, columns):
    r"""The mean step from one column of pixels to the next, at some columns."""
    steps = picture.diff(dim=-1).abs().mean(dim=(0, 1, 2))
    return steps[columns].mean()


def test_a_decoded_picture_is_close_to_the_whole_one_and_has_no_seams(vae, draw):
    latent = smooth(draw, 2, 45, 45)
    whole, tiled = vae.decode(latent), decode_in_tiles(vae, latent, tile=24, overlap=8)
    assert whole.shape == tiled.shape == (1, 3, 90, 90)
    assert (tiled - whole).abs().mean() < 0.1 * whole.std()
    # Tiles begin or end at these columns of the picture. Side by side without fading, they would jump there.
    edges = [
        2 * place - 1 for start in tile_starts(45, 24, 8) for place in (start, start + 24) if 0 < place < 45
    ]
    assert edges and jump(tiled, edges) < 1.5 * jump(whole, edges)


def test_an_encoded_picture_is_close_to_the_whole_one(vae, draw):
    pixels = smooth(draw, 3, 62, 90)
    for ours, whole in zip(encode_in_tiles(vae, pixels, tile=24, overlap=8), vae.encode(pixels), strict=True):
        assert ours.shape == whole.shape == (1, 2, 31, 45)
        assert (ours - whole).abs().mean() < 0.2 * whole.std()  # attention looks at a tile only


@torch.no_grad()
def test_tiles_with_the_statistics_of_the_whole_are_the_whole(vae, draw):
    # With the statistics of the whole, and where no padding reaches, a tile is what the whole has there.
    middle = draw(1, 8, 24, 24)
    whole = vae.decoder.enlarge(middle)
    with fixed_statistics(vae.decoder, lambda: vae.decoder.enlarge(middle)):
        piece = vae.decoder.enlarge(middle[..., 2:22, :])
    torch.testing.assert_close(piece[..., 16:24, :], whole[..., 20:28, :], **TIGHT)
    torch.testing.assert_close(vae.decoder.enlarge(middle), whole, **TIGHT)  # and all is as it was


def test_a_small_version_keeps_places_as_they_are(draw):
    x = draw(1, 2, 4, 6)
    assert torch.equal(subsample(x, 2), x[..., ::2, ::3]) and torch.equal(subsample(x, 6), x)


def test_a_picture_does_not_depend_on_the_others_of_its_batch(vae, draw):
    latent = draw(2, 2, 9, 11)
    both = decode_in_tiles(vae, latent, 6, 2)
    assert torch.equal(both[1:], decode_in_tiles(vae, latent[1:], 6, 2))


def test_bfloat16_stays_bfloat16_and_is_faded_in_float32(draw):
    x = torch.ones(1, 1, 300, 5, dtype=torch.bfloat16)
    out = in_tiles(lambda z: z, x, (1, 1), tile=200, overlap=190)
    assert out.dtype == torch.bfloat16 and (out == 1).all()


def test_tiles_that_cannot_be_are_an_error(vae, draw):
    with pytest.raises(LdmError, match="tiles of 4 with an overlap of 4; expected at least 0 and less"):
        decode_in_tiles(vae, draw(1, 2, 9, 9), tile=4, overlap=4)
    with pytest.raises(LdmError, match="11x10 pixels in tiles; expected multiples of 2"):
        encode_in_tiles(vae, draw(1, 3, 10, 11))


def test_a_cpu_works_in_tiles_unasked_from_the_size_of_stable_diffusion_xl_on():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert must_tile((1024, 1024), cpu) and must_tile((2048, 512), cpu)
    assert not must_tile((1024, 1016), cpu) and not must_tile((2048, 2048), gpu)
