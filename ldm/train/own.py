r"""Your own pictures: a folder of images with captions, made ready for training.

A caption comes from `metadata.jsonl`, one JSON object a line, the convention of image folders on the Hugging Face hub:

    {"file_name": "00000.png", "text": "a castle by a lake at night"}

or from a text file beside the image (00000.png, 00000.txt). `ldm postcards --folder DIR` writes such a folder.
"""

import json
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from ldm.errors import LdmError
from ldm.train.checkpoint import fingerprint
from ldm.train.data import Pictures
from ldm.train.processes import rank

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
METADATA = "metadata.jsonl"

Unusable = dict[str, list[str]]  # reason -> names


def read_own(folder: Path, size: int) -> tuple[Pictures, Pictures]:
    """The usable pictures of `folder`: those to train on, and every tenth, by order of name, held out to measure.

    Each is turned as its camera held it, converted to RGB, cropped to its central square and resized to `size` pixels.
    What is unusable is reported, with the reason. Raises `LdmError` if fewer than two are left.
    """
    unusable: Unusable = defaultdict(list)
    captions = find_captions(folder, unusable)
    squares, texts = [], []
    for name, text in sorted(captions.items()):
        try:
            squares.append(read_square(folder / name, size))
            texts.append(text)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # Pillow's ways to say no
            unusable["no picture that can be read"].append(name)
    if rank() == 0:
        report(folder, len(texts), unusable)
    if len(texts) < 2:
        raise LdmError(
            f"{folder} has {len(texts)} usable pictures; expected at least 2, each with a line "
            f'{{"file_name": ..., "text": ...}} in {METADATA} or a .txt file beside it'
        )
    measured = set(range(9, len(texts), 10)) or {len(texts) - 1}
    halves = [[i for i in range(len(texts)) if (i in measured) == wanted] for wanted in (False, True)]
    parts = [(np.stack([squares[i] for i in half]), [texts[i] for i in half]) for half in halves]
    seen, held_out = (
        Pictures(texts, pixels, fingerprint(pixels.tobytes(), texts)) for pixels, texts in parts
    )
    return seen, held_out


def find_captions(folder: Path, unusable: Unusable) -> dict[str, str]:
    """Name -> caption of all images in `folder` and its subfolders; adds to `unusable` what has none, and why."""
    if not folder.is_dir():
        raise LdmError(f"no folder {folder}; give one that holds images and their captions")
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES}
    captions = read_metadata(folder / METADATA, unusable)
    for name in captions.keys() - names:
        unusable[f"named in {METADATA}, but no image in the folder"].append(name)
    for name in names - captions.keys():
        beside = (folder / name).with_suffix(".txt")
        if beside.is_file():
            captions[name] = beside.read_text(encoding="utf-8", errors="replace")
        else:
            unusable["no caption"].append(name)
    for name in names & captions.keys():
        if not captions[name].strip():
            unusable["an empty caption"].append(name)
    return {name: captions[name].strip() for name in names & captions.keys() if captions[name].strip()}


def read_metadata(path: Path, unusable: Unusable) -> dict[str, str]:
    """`file_name` -> `text` of each line; lines without them go to `unusable`."""
    captions = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except json.JSONDecodeError:
            row = ()
        if (
            isinstance(row, dict)
            and isinstance(row.get("file_name"), str)
            and isinstance(row.get("text"), str)
        ):
            captions[PurePosixPath(row["file_name"]).as_posix()] = row["text"]  # "./a.png" is "a.png"
        elif row is not None:  # an empty line is no mistake
            unusable[f"a line of {METADATA} without file_name and text"].append(f"line {number}")
    return captions


def read_square(path: Path, size: int) -> np.ndarray:
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS))


def report(folder: Path, usable: int, unusable: Unusable) -> None:
    print(f"{folder}: {usable} usable pictures")
    for reason, names in sorted(unusable.items()):
        shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        print(f"  {len(names)} unusable: {reason} ({shown})")
