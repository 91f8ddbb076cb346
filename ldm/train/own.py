r"""Your own images: read a folder of images with captions for training.

A caption comes from `metadata.jsonl`, with one JSON object per line, as in an image folder on the Hugging Face hub:

    {"file_name": "00000.png", "text": "a castle by a lake at night"}

or from a text file beside the image (00000.png, 00000.txt). Text must be UTF-8, or UTF-16 with a byte order mark; any
other encoding is reported, not guessed. `ldm postcards --folder DIR` writes such a folder.
"""

import codecs
import json
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from ldm.errors import LdmError, printable
from ldm.files.read_write import read_bounded
from ldm.images.reading import fit_picture, read_picture
from ldm.train.checkpoint import fingerprint
from ldm.train.data import CaptionedImages
from ldm.train.processes import rank

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif")
METADATA = "metadata.jsonl"
# In bytes: far more text than an encoder reads, and far more lines than anybody trains on.
LARGEST_CAPTION, LARGEST_METADATA = 2**20, 2**28
# Python's utf-16 codec finds the byte order itself. UTF-32 comes first, because its mark starts with that of UTF-16.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip

Unusable = dict[str, list[str]]  # reason -> names


def read_image_folder(folder: Path, size: int) -> tuple[CaptionedImages, CaptionedImages]:
    """The usable images of `folder`, split into training and held-out images (every tenth in order of name).

    Each image is read by `ldm.images.reading` (upright, opaque, RGB), cropped to its central square and resized to
    `size` pixels. Unusable files are reported with the reason. Raises `LdmError` if fewer than two images are usable.
    """
    unusable: Unusable = defaultdict(list)
    captions = find_captions(folder, unusable)
    squares, texts = [], []
    for name, text in sorted(captions.items()):
        try:
            # Read as `--init` reads it, cropped to the central square.
            squares.append(np.asarray(fit_picture(read_picture(folder / name), (size, size))))
            texts.append(text)
        except LdmError:
            unusable["an image that cannot be read"].append(name)
    if rank() == 0:
        print_report(folder, len(texts), unusable)
    if len(texts) < 2:
        raise LdmError(
            f"{folder} has {len(texts)} usable images; expected at least 2, each with a line "
            f'{{"file_name": ..., "text": ...}} in {METADATA} or a .txt file beside it'
        )
    reserved = set(range(9, len(texts), 10)) or {len(texts) - 1}
    splits = [[i for i in range(len(texts)) if (i in reserved) == wanted] for wanted in (False, True)]
    parts = [(np.stack([squares[i] for i in split]), [texts[i] for i in split]) for split in splits]
    training, held_out = (
        CaptionedImages(texts, pixels, fingerprint(pixels.tobytes(), texts)) for pixels, texts in parts
    )
    return training, held_out


def find_captions(folder: Path, unusable: Unusable) -> dict[str, str]:
    """File name -> caption for the images in `folder` and its subfolders; adds all others to `unusable`."""
    if not folder.is_dir():
        raise LdmError(f"no folder {folder}; give a folder of images with captions")
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES}
    captions = read_metadata(folder / METADATA, unusable)
    for name in captions.keys() - names:
        unusable[f"named in {METADATA}, but no image in the folder"].append(name)
    for name in names - captions.keys():
        beside = (folder / name).with_suffix(".txt")
        if not beside.exists():
            unusable["no caption"].append(name)
            continue
        try:
            captions[name] = read_caption(beside)
        except (LdmError, ValueError):
            unusable["a caption that cannot be read; save it as text in UTF-8"].append(name)
    for name in names & captions.keys():
        if not captions[name].strip():
            unusable["an empty caption"].append(name)
    return {name: captions[name].strip() for name in names & captions.keys() if captions[name].strip()}


def read_metadata(path: Path, unusable: Unusable) -> dict[str, str]:
    """`file_name` -> `text` for each line; lines without both are added to `unusable`."""
    captions = {}
    content = read_bounded(path, LARGEST_METADATA) if path.exists() else b""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            content = decode_text(content).encode()
        except ValueError as error:
            raise LdmError(f"{path} is not valid UTF-16 ({error}); save it as UTF-8") from error
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        try:
            row = json.loads(decode_text(line)) if line.strip() else None
        except (ValueError, RecursionError):
            row = ()
        if (
            isinstance(row, dict)
            and isinstance(row.get("file_name"), str)
            and isinstance(row.get("text"), str)
        ):
            captions[PurePosixPath(row["file_name"]).as_posix()] = row["text"]  # "./a.png" is "a.png"
        elif row is not None:  # empty lines are allowed
            unusable[f"a line of {METADATA} without file_name and text in UTF-8"].append(f"line {number}")
    return captions


def read_caption(path: Path) -> str:
    """The text of a UTF-8 or UTF-16 file. Raises `LdmError` or `ValueError` if it is anything else."""
    text = decode_text(read_bounded(path, LARGEST_CAPTION))
    if "\0" in text:  # as in UTF-16 without a byte order mark
        raise ValueError("a null byte in a text")
    return text


def decode_text(content: bytes) -> str:
    """Decode UTF-8, or the encoding that the byte order mark names; the mark is removed."""
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    return content.decode(encoding)


def print_report(folder: Path, usable: int, unusable: Unusable) -> None:
    print(printable(f"{folder}: {usable} usable images"))
    for reason, names in sorted(unusable.items()):
        shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        print(printable(f"  {len(names)} unusable: {reason} ({shown})"))
