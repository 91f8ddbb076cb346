r"""Images that somebody hands in: files of any kind, made into what a model can begin with.

An image may come from a phone (lying on its side, with a note in its EXIF data that says so), a scanner (16 bits), a
print shop (CMYK) or the web (a palette, transparency). Here it becomes upright, opaque, 8-bit RGB of a given size.

Colour profiles are ignored: numbers are taken as sRGB, whatever a profile in the file says.
"""

import os
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

from ldm.errors import LdmError
from ldm.files.paths import expanded
from ldm.files.read_write import open_regular

# Only formats that Pillow decodes itself; EPS would start Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA", "ICO")
# Formats of files that begin as a video does, by the brand that they name. Not every build of Pillow decodes them.
BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"mif1", b"msf1"), "HEIF"),
}
EIGHT_BITS = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # of 16; 65535 / 257 = 255
STRIP = 256  # rows
WHITE = 128  # a mask's grey from here on is white
# Which warnings are errors is a process-wide setting: one thread at a time changes it.
_warnings = threading.Lock()


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """A file as an upright RGB image of its own size: of an animation the first frame, transparency on white.

    Raises `LdmError` for a file that is missing, unreadable, empty, damaged, cut off or too large (89 million pixels:
    a small file that unpacks to gigabytes is an old trick).
    """
    return _read(path, "white")


def read_mask(path: str | os.PathLike[str]) -> Image.Image:
    """A file as a mask of its own size, mode "L": 255 where the image is regenerated, 0 where it is kept.

    Greys are rounded to black or white. Transparent parts count as black, so white strokes on a transparent layer are
    a mask. Raises `LdmError` as `read_picture` does, and for a mask with nothing white in it.
    """
    return _some_white(_black_and_white(_read(path, "black")), f"the mask {Path(path)}")


def fit_picture(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image, of any mode and size, in RGB and of `size` (width, height).

    It is resized to cover that size, and what exceeds it is cropped evenly on both sides. An upright image of that
    size already, as from `read_picture`, is neither resized nor cropped.
    """
    return _cover(_flat(image, "white"), size)


def fit_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The mask, resized and cropped as `fit_picture` does with its image, in black and white as from `read_mask`.

    So it makes no difference whether a mask is drawn before or after `fit_picture`. Raises `LdmError` if nothing white
    is left: it may have been cropped, or it was thinner than a pixel of `size`.
    """
    return _some_white(
        _black_and_white(_cover(_flat(mask, "black"), size)), f"the mask, at {size[0]}x{size[1]} pixels,"
    )


def _read(path: str | os.PathLike[str], background: str) -> Image.Image:
    path = expanded(path)
    try:
        if not path.exists() and not path.is_symlink():
            raise LdmError(f"no picture {path}: there is no such file; check its name")
        if path.is_file() and path.stat().st_size == 0:
            raise LdmError(f"{path} is empty (0 bytes); expected a picture: save or copy it again")
        with _warnings, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd EXIF data, say
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_regular(path) as file, Image.open(file, formats=formats()) as image:
                return _flat(image, background)
    except LdmError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels"
        raise LdmError(f"{path} is too large ({error}); expected at most {limit}: shrink it first") from error
    except UnidentifiedImageError as error:
        kind = _brand(path)
        if kind:
            raise LdmError(
                f"{path} is a picture in {kind}, which Pillow cannot read as it is installed; save it as PNG or JPEG"
            ) from error
        kinds = ", ".join(formats())
        raise LdmError(f"{path} is not a picture that can be read; expected one of {kinds}") from error
    except Exception as error:  # Pillow's decoders raise nearly any type of error for damaged bytes
        reason = getattr(error, "strerror", None) or error
        raise LdmError(
            f"cannot read {path} ({reason}); it may be damaged or cut off: save or copy it again"
        ) from error


def formats() -> tuple[str, ...]:
    """The formats read on this machine: also AVIF if Pillow was built with it, HEIF if a plugin is registered."""
    avif = "avif" in features.modules and features.check_module("avif")
    return FORMATS + ("AVIF",) * avif + ("HEIF",) * ("HEIF" in Image.OPEN)


def _brand(path: Path) -> str | None:
    with open_regular(path) as file:
        head = file.read(12)
    return BRANDS.get(head[8:]) if head[4:8] == b"ftyp" else None


def _flat(image: Image.Image, background: str) -> Image.Image:
    """Upright, opaque, 8-bit RGB."""
    given = image
    image.load()  # some formats turn the image upright by themselves here
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "La":  # Pillow has no other conversion from premultiplied greys
        image = image.convert("LA")
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # 32 bits; in those formats, 16
        raise LdmError(
            "a picture with 32 bits a number, of which none says what is white: save it with 8 or 16"
        )
    if image.mode.startswith("I"):  # 16 bits, greyscale: Pillow itself would clip at 255
        image = Image.fromarray(EIGHT_BITS[np.clip(np.asarray(image), 0, 65535)])
    if image.has_transparency_data:
        image = _opaque(image, background)
    if image.mode in ("F", "LAB"):  # F does not define what is white, and LAB needs another conversion
        raise LdmError(
            f"a picture in Pillow's mode {image.mode!r}; expected colours or greys of 8 or 16 bits: save it as PNG"
        )
    return image if image is not given and image.mode == "RGB" else image.convert("RGB")


def _opaque(image: Image.Image, background: str) -> Image.Image:
    """The image on a background, strip by strip: at 89 million pixels each copy of the whole would take 350 MB."""
    flat = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIP):
        strip = image.crop((0, top, image.width, min(top + STRIP, image.height))).convert("RGBA")
        behind = Image.new("RGBA", strip.size, background)
        flat.paste(Image.alpha_composite(behind, strip).convert("RGB"), (0, top))
    return flat


def _cover(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if 0 in image.size:
        raise LdmError(
            f"a picture of {image.width}x{image.height} pixels; expected at least one along each side"
        )
    return image if image.size == size else ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def _black_and_white(mask: Image.Image) -> Image.Image:
    return mask.convert("L").point(lambda grey: 255 if grey >= WHITE else 0)


def _some_white(mask: Image.Image, name: str) -> Image.Image:
    if mask.getbbox() is None:
        raise LdmError(
            f"{name} is all black: nothing to repaint; paint white what is to change (greys below {WHITE} of 255, such "
            "as the 1 of a mask of 0 and 1, count as black)"
        )
    return mask
