r"""Pictures that somebody hands in: any mode, any size, and files that are not what they seem."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from ldm.errors import LdmError
from ldm.images.reading import FORMATS, fit_mask, fit_picture, formats, read_mask, read_picture

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def halves(left, right, size=(8, 6), mode="RGB") -> Image.Image:
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def corners(image: Image.Image) -> list:
    right, bottom = image.width - 1, image.height - 1
    return [image.getpixel(at) for at in ((0, 0), (right, 0), (0, bottom), (right, bottom))]


@pytest.mark.parametrize(
    "name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.gif", "a.ppm", "a.tga", "a.jp2", "a.ico"]
)
def test_each_format_without_loss_gives_its_pixels(tmp_path, name):
    image = halves(RED, WHITE, size=(32, 32))
    options = {"lossless": True} if name == "a.webp" else {}
    read = read_picture(saved(tmp_path / name, image, **options))
    assert read.mode == "RGB" and read.size == (32, 32)
    np.testing.assert_array_equal(np.asarray(read), np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_any_mode_becomes_rgb(tmp_path, mode):
    path = saved(tmp_path / "a.tif", halves(BLACK, WHITE).convert(mode))
    assert Image.open(path).mode == mode
    image = read_picture(path)
    assert image.mode == "RGB" and corners(image) == [BLACK, WHITE] * 2


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
@pytest.mark.parametrize("turned", [False, True])
def test_avif_is_read_upright_where_pillow_was_built_with_it(tmp_path, turned):
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    image = read_picture(saved(tmp_path / "a.avif", halves(BLACK, WHITE, (32, 16)), quality=100, exif=exif))
    assert image.mode == "RGB" and image.size == ((16, 32) if turned else (32, 16))
    dark = np.asarray(image)[..., 0] < 128
    assert dark[: 16 if turned else 99, : 99 if turned else 16].all() and dark.mean() == 0.5
    assert read_mask(tmp_path / "a.avif").getextrema() == (0, 255)


@pytest.mark.parametrize(
    ("brand", "kind"), [("avif", "AVIF"), ("heic", "HEIF"), ("mif1", "HEIF"), ("mp42", None)]
)
def test_a_format_that_pillow_was_not_built_for_is_named(tmp_path, monkeypatch, brand, kind):
    monkeypatch.setattr(features, "check_module", lambda name: False)
    assert formats() == FORMATS
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftyp" + brand.encode() + bytes(100))
    with pytest.raises(LdmError, match=f"is a picture in {kind}" if kind else "is not a picture that can be"):
        read_picture(tmp_path / "a.heic")


def test_a_plugin_for_heif_is_used_where_it_is_registered(monkeypatch):
    monkeypatch.setitem(Image.OPEN, "HEIF", None)
    assert formats()[-1] == "HEIF"


def test_the_home_folder_and_a_broken_link_are_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path / "a.png", halves(BLACK, WHITE))
    assert read_picture("~/a.png").size == (8, 6)
    (tmp_path / "b.png").symlink_to("gone.png")
    with pytest.raises(LdmError, match=r"b.png: it is a broken link: it points to gone.png"):
        read_picture(tmp_path / "b.png")


def test_greys_of_32_bits_are_refused_and_those_of_16_are_read_from_every_format(tmp_path):
    ramp = np.array([[0, 65535, 32896]], dtype=np.uint16)
    for name in ("a.png", "a.tif", "a.pgm"):
        image = read_picture(saved(tmp_path / name, Image.fromarray(ramp)))
        assert [image.getpixel((x, 0)) for x in range(3)] == [(v, v, v) for v in (0, 255, 128)]
    for wide in (np.array([[0, 255]], dtype=np.int32), np.array([[0, 1]], dtype=np.float32)):
        with pytest.raises(LdmError, match="save it"):
            read_picture(saved(tmp_path / "b.tif", Image.fromarray(wide)))
        with pytest.raises(LdmError, match="save it"):
            fit_picture(Image.fromarray(wide), (2, 1))


@pytest.mark.parametrize("mode", ["La", "LA", "PA", "RGBa", "RGBX", "HSV", "YCbCr", "CMYK", "1", "P"])
def test_images_of_any_mode_that_pillow_makes_are_fitted(mode):
    first = {"La": "LA", "PA": "LA", "RGBa": "RGBA"}.get(mode)
    image = halves(BLACK, WHITE)
    image = image.convert(first).convert(mode) if first else image.convert(mode)
    assert corners(fit_picture(image, (8, 6))) == [BLACK, WHITE] * 2


def test_a_mask_of_zeros_and_ones_is_told_what_counts_as_white(tmp_path):
    with pytest.raises(LdmError, match="all black.*such as the 1 of a mask of 0 and 1"):
        read_mask(saved(tmp_path / "a.png", halves(0, 1, mode="L")))


def test_16_bits_are_rounded_to_8_by_hand(tmp_path):
    # 65535 / 257 = 255; 32896 / 257 = 128; 385 / 257 = 1.498; 386 / 257 = 1.502
    values = np.array([[0, 65535, 32896, 385, 386]], dtype=np.uint16)
    image = read_picture(saved(tmp_path / "a.png", Image.fromarray(values)))
    assert [image.getpixel((x, 0)) for x in range(5)] == [(v, v, v) for v in (0, 255, 128, 1, 2)]


def test_what_is_transparent_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (3, 1), (*RED, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 51))  # a fifth of black: 255 * 4/5 = 204
    flat = read_picture(saved(tmp_path / "a.png", image))
    assert [flat.getpixel((x, 0)) for x in range(3)] == [RED, WHITE, (204, 204, 204)]


@pytest.mark.parametrize(("mode", "black"), [("L", 0), ("P", 0), ("RGB", BLACK)])
def test_a_transparent_colour_is_laid_on_white(tmp_path, mode, black):
    image = halves(BLACK, RED).convert(mode)
    path = saved(tmp_path / "a.png", image, transparency=image.getpixel((0, 0)))
    assert read_picture(path).getpixel((0, 0)) == WHITE
    assert read_picture(path).getpixel((7, 0)) != WHITE


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_a_picture_lying_on_its_side_is_set_upright(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it right: what is at the left comes to the top
    options = {".jpg": {"quality": 95}, ".webp": {"lossless": True}}.get(Path(name).suffix, {})
    path = saved(tmp_path / name, halves(BLACK, WHITE, size=(32, 16)), exif=exif, **options)
    image = read_picture(path)
    assert image.size == (16, 32)
    dark = np.asarray(image)[..., 0] < 128
    assert dark[:16].all() and not dark[16:].any()
    assert fit_picture(image, (16, 32)).tobytes() == image.tobytes()  # and not turned again


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLACK)]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert read_picture(path).getcolors() == [(16, RED)]


@pytest.mark.parametrize(
    ("size", "kept"),
    [
        ((12, 4), slice(4, 8)),  # wide: a third goes at each side
        ((4, 12), None),
        ((24, 8), slice(4, 8)),  # the same at twice the size
        ((6, 2), slice(4, 8)),
    ],
)
def test_a_picture_is_resized_to_cover_and_cut_in_the_middle(size, kept):
    # A ramp along the longer side from 0 to 1; the middle third of it is 1/3 to 2/3.
    width, height = size
    ramp = np.linspace(0, 255, max(size))[None] if width > height else np.linspace(0, 255, max(size))[:, None]
    image = Image.fromarray(np.broadcast_to(ramp, (height, width)).astype(np.uint8))
    fitted = fit_picture(image, (4, 4))
    assert fitted.size == (4, 4) and fitted.mode == "RGB"
    values = np.asarray(fitted)[..., 0].astype(float)
    along = values.mean(axis=0 if width > height else 1)
    # Samples in the middles of four quarters of the third: 1/3 + (i + 1/2) / 12.
    assert np.abs(along / 255 - (1 / 3 + (np.arange(4) + 0.5) / 12)).max() < 0.05


def test_a_picture_that_fits_stays_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    assert (np.asarray(fit_picture(Image.fromarray(pixels), (8, 6))) == pixels).all()
    assert fit_picture(Image.fromarray(pixels), (6, 8)).size == (6, 8)


def test_fitting_takes_pictures_of_any_mode_and_leaves_them_alone():
    holes = Image.new("RGBA", (9, 5))
    assert fit_picture(holes, (4, 4)).getcolors() == [(16, WHITE)]
    assert holes.mode == "RGBA" and holes.size == (9, 5)
    assert fit_picture(Image.new("1", (1, 100), 1), (4, 4)).getcolors() == [(16, WHITE)]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (halves(0, 255, mode="L"), 24),
        (halves(127, 128, mode="L"), 24),  # grey is rounded
        (halves(BLACK, WHITE), 24),
        (halves((255, 255, 255, 0), (255, 255, 255, 255), mode="RGBA"), 24),  # transparent: kept
        (halves(0, 1, mode="1"), 24),
        (Image.new("L", (8, 6), 255), 48),
    ],
)
def test_a_masks_white_is_what_is_repainted(tmp_path, mask, expected):
    read = read_mask(saved(tmp_path / "mask.png", mask))
    assert read.mode == "L" and read.histogram()[255] == expected
    assert read.histogram()[0] + read.histogram()[255] == 48
    assert fit_mask(mask, mask.size).tobytes() == read.tobytes()


def test_a_mask_of_another_size_is_resized_as_the_picture_is():
    pixels = np.zeros((40, 80), dtype=np.uint8)
    pixels[10:20, 30:45] = 255
    mask = fit_mask(Image.fromarray(pixels), (20, 20))
    picture = fit_picture(Image.fromarray(pixels), (20, 20))
    np.testing.assert_array_equal(np.asarray(mask) == 255, np.asarray(picture)[..., 0] >= 128)
    # Halved, and 20 of 80 columns gone at each side: rows 5 to 9, columns 5 to 12.5.
    rows, columns = np.nonzero(np.asarray(mask))
    assert (rows.min(), rows.max(), columns.min()) == (5, 9, 5) and columns.max() in (11, 12)


def test_a_mask_without_white_is_an_error(tmp_path):
    path = saved(tmp_path / "mask.png", Image.new("L", (8, 8), 100))
    with pytest.raises(LdmError, match=r"mask\.png is all black: nothing to repaint; paint white"):
        read_mask(path)
    edge = Image.new("L", (40, 8))
    edge.paste(255, (0, 0, 4, 8))  # white, but where the cut goes
    with pytest.raises(LdmError, match="the mask, at 8x8 pixels, is all black"):
        fit_mask(edge, (8, 8))


def damaged(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = saved(folder / "whole.png", Image.fromarray(noise)).read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(
            {
                "empty": b"",
                "truncated": whole[: len(whole) // 2],
                "header": whole[:20],
                "broken": whole[:100] + bytes(200) + whole[300:],
                "text": b"a dog with glasses",
                "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            }[kind]
        )
    return path


@pytest.mark.parametrize("read", [read_picture, read_mask])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"no picture .*missing\.png: there is no such file; check its name"),
        ("folder", r"cannot read .*folder\.png: it is a folder; expected a regular file"),
        ("empty", r"empty\.png is empty \(0 bytes\); expected a picture: save or copy it again"),
        ("truncated", r"cannot read .*truncated\.png \(.*\); it may be damaged or cut off"),
        ("header", r"header\.png"),
        ("broken", r"cannot read .*broken\.png"),
        ("text", r"text\.png is not a picture that can be read; expected one of PNG, JPEG"),
        ("postscript", r"postscript\.png is not a picture that can be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_says_why(tmp_path, read, kind, message):
    with pytest.raises(LdmError, match=message) as caught:
        read(damaged(tmp_path, kind))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("factor", [1.5, 3])  # where Pillow warns, and where it refuses
def test_a_gigantic_picture_is_an_error_before_it_is_unpacked(tmp_path, monkeypatch, factor):
    path = saved(tmp_path / "bomb.png", Image.new("1", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(10_000 / factor))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("unpacked"))
    with pytest.raises(
        LdmError, match=r"bomb\.png is too large .* expected at most .* pixels: shrink it first"
    ):
        read_picture(path)


@pytest.mark.parametrize("name", ["", "a\0b.png", "x" * 5000])
def test_an_impossible_name_is_an_error_too(name):
    with pytest.raises(LdmError):
        read_picture(name)


def test_any_cut_and_any_wrong_byte_give_a_picture_or_the_projects_own_error(tmp_path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (16, 16, 4), dtype=np.uint8))
    for name in ("a.png", "a.gif", "a.webp", "a.tif", "a.jp2"):
        whole = saved(tmp_path / name, noise).read_bytes()
        for _ in range(40):
            bytes_ = bytearray(whole[: rng.integers(1, len(whole) + 1)])
            bytes_[rng.integers(len(bytes_))] = rng.integers(256)
            (tmp_path / name).write_bytes(bytes_)
            try:
                assert read_picture(tmp_path / name).mode == "RGB"
            except LdmError:
                pass


def test_numbers_without_a_white_are_an_error(tmp_path):
    path = saved(tmp_path / "a.tif", Image.new("F", (4, 4), 0.5))
    with pytest.raises(LdmError, match="mode 'F'; expected colours or greys of 8 or 16 bits"):
        read_picture(path)


def test_pictures_are_read_without_torch():
    code = "import sys, ldm.images.reading; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
