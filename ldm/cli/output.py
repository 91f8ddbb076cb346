"""What the commands print, and where their images go."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.errors import LdmError, printable
from ldm.files.read_write import atomic_path, writable, write_new

if TYPE_CHECKING:
    from PIL.Image import Image

    from ldm.diffusion.sample import Step
    from ldm.images.metadata import Record

OTHER_FORMATS = (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
LONGEST = 1000  # characters of a message: a prompt may have 100,000


def tell(text: str) -> None:
    """Print a message, one line on standard error. Standard output is for results alone: paths and tables."""
    rest = len(text) - LONGEST
    text = printable(text[:LONGEST])
    print(f"{text}... and {rest} characters more" if rest > 0 else text, file=sys.stderr)


def progress_bar(steps: Iterator[Step], total: int) -> Iterable[Step]:
    from tqdm import tqdm

    return tqdm(steps, total=total, unit="step", leave=False)


def check_place(out: Path | None) -> None:
    """Check that images can be written to `out`, before any time is spent on them. Nothing is created yet."""
    if out is not None and out.suffix.lower() in OTHER_FORMATS:
        raise LdmError(f"--out {out}; images are written as .png: give such a name, or a folder")
    folder = output_folder(out)
    check_folder(folder, out or folder)


def check_folder(folder: Path, asked: Path) -> None:
    """Check that `folder` can be written to, or created. `asked` is the path that the error names."""
    for place in (folder, *folder.parents):
        try:
            os.stat(place)
        except FileNotFoundError:
            continue  # it will be created: what counts is the folder in which that happens
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        else:
            if not place.is_dir():
                reason = f"{place} is not a folder"
            elif not os.access(place, os.W_OK | os.X_OK):
                reason = f"{place} is not writable"
            else:
                return
        raise LdmError(f"cannot write {asked}: {reason}; give another place")


def output_folder(out: Path | None) -> Path:
    """The folder of the images that `--out` asks for, whether it names a folder or a file."""
    folder = out or Path("outputs")
    return folder.parent if folder.suffix.lower() == ".png" else folder


def save_output(image: Image, out: Path | None, name: str, index: int, count: int, record: Record) -> None:
    """Write image `index` of `count`: under a free name in a folder, or to the file `out` (numbered if many)."""
    if out is not None and out.suffix.lower() == ".png":
        save_image(image, out if count == 1 else out.with_stem(f"{out.stem}-{index}"), record)
    else:
        folder = output_folder(out)
        save_new(image, folder, numbered(folder, name), record)


def numbered(folder: Path, name: str) -> Iterator[str]:
    """The names 00042-NAME.png and so on, from the first free number."""
    numbers = [int(path.name[:5]) for path in folder.glob("[0-9][0-9][0-9][0-9][0-9]-*.png")]
    for number in itertools.count(1 + max(numbers, default=0)):
        yield f"{number:05d}-{name}.png"


def save_image(image: Image, path: Path, record: Record | None = None) -> None:
    """Write a PNG, whole or not at all, and print its path. A file of that name is replaced."""
    with writing(path) as temporary:
        write_png(image, temporary, record)


def save_new(image: Image, folder: Path, names: Iterable[str], record: Record) -> bool:
    """Write a PNG under the first free name in `folder` and print its path. False if no name is free."""
    with writable(folder):
        path = write_new(folder, names, lambda temporary: write_png(image, temporary, record))
    if path is not None:
        print_path(path)
    return path is not None


def write_png(image: Image, path: Path, record: Record | None) -> None:
    from ldm.diffusion.samplers.table import SPACING_LABELS, find_sampler, find_spacing
    from ldm.images.metadata import png_texts

    texts = None
    if record is not None:
        spacing = record.spacing and SPACING_LABELS[find_spacing(record.spacing)]
        texts = png_texts(record, find_sampler(record.sampler).label, spacing)
    image.save(path, format="PNG", pnginfo=texts)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all, and print its path."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path, which becomes `path`; then print that. Raises `LdmError` if it cannot be written."""
    with writable(path), atomic_path(path) as temporary:
        yield temporary
    print_path(path)


def print_path(path: Path) -> None:
    print(f"{printable(str(path))}\n", end="")  # in one write: under torchrun other processes print too
