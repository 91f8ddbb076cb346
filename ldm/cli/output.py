"""What the commands tell, and where their pictures go."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.errors import LdmError, printable

if TYPE_CHECKING:
    from PIL.Image import Image

    from ldm.diffusion.sample import Step
    from ldm.images.metadata import Record

OTHER_PICTURES = (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
LONGEST = 1000  # characters of a line that is told: a prompt may have 100,000


def tell(text: str) -> None:
    """One line for the person at the keyboard. Standard output is for results alone: paths, tables."""
    rest = len(text) - LONGEST
    text = printable(text[:LONGEST])
    print(f"{text}... and {rest} characters more" if rest > 0 else text, file=sys.stderr)


def progress_bar(steps: Iterator[Step], total: int) -> Iterable[Step]:
    from tqdm import tqdm

    return tqdm(steps, total=total, unit="step", leave=False)


def check_place(out: Path | None) -> None:
    """See that pictures can go to `out`, before time is spent on painting them. Nothing is made yet."""
    if out is not None and out.suffix.lower() in OTHER_PICTURES:
        raise LdmError(f"--out {out}; pictures are written as .png: give such a name, or a folder")
    folder = output_folder(out)
    check_folder(folder, out or folder)


def check_folder(folder: Path, asked: Path) -> None:
    """See that `folder` can be written to, or made. `asked` is what the error names."""
    for place in (folder, *folder.parents):
        try:
            os.stat(place)
        except FileNotFoundError:
            continue  # it will be made: what counts is the folder that it will be made in
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        else:
            if not place.is_dir():
                reason = f"{place} is not a folder"
            elif not os.access(place, os.W_OK | os.X_OK):
                reason = f"{place} may not be written to"
            else:
                return
        raise LdmError(f"cannot write {asked}: {reason}; give another place")


def output_folder(out: Path | None) -> Path:
    """The folder in which images go that are to go to `out`: a folder, or a file in one."""
    folder = out or Path("outputs")
    return folder.parent if folder.suffix.lower() == ".png" else folder


def save_output(image: Image, out: Path | None, name: str, index: int, count: int, record: Record) -> None:
    """Write image `index` of `count`: under a free name in a folder, or as the file asked for (numbered if many)."""
    if out is not None and out.suffix.lower() == ".png":
        save_image(image, out if count == 1 else out.with_stem(f"{out.stem}-{index}"), record)
    else:
        folder = out or Path("outputs")
        save_new(image, folder, numbered(folder, name), record)


def numbered(folder: Path, name: str) -> Iterator[str]:
    """The names 00042-NAME.png and so on, from the first number that is free."""
    numbers = [int(path.name[:5]) for path in folder.glob("[0-9][0-9][0-9][0-9][0-9]-*.png")]
    for number in itertools.count(1 + max(numbers, default=0)):
        yield f"{number:05d}-{name}.png"


def save_image(image: Image, path: Path, record: Record | None = None) -> None:
    """Write a PNG, whole or not at all, with what made it; print its path. A file of that name is replaced."""
    with writing(path) as temporary:
        write_png(image, temporary, record)


def save_new(image: Image, folder: Path, names: Iterable[str], record: Record) -> bool:
    """Write a PNG under the first of the names that is free in `folder`; print its path. False if all are taken."""
    from ldm.files.read_write import write_new

    with writable(folder):
        path = write_new(folder, names, lambda temporary: write_png(image, temporary, record))
    if path is not None:
        tell_path(path)
    return path is not None


def write_png(image: Image, path: Path, record: Record | None) -> None:
    from ldm.diffusion.samplers import find_sampler
    from ldm.images.metadata import png_texts

    texts = None if record is None else png_texts(record, find_sampler(record.sampler).label)
    image.save(path, format="PNG", pnginfo=texts)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; print its path."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path`, which is then printed. Raises `LdmError` if that cannot be."""
    from ldm.files.read_write import atomic_path

    with writable(path), atomic_path(path) as temporary:
        yield temporary
    tell_path(path)


def tell_path(path: Path) -> None:
    print(f"{printable(str(path))}\n", end="")  # in one piece: under torchrun others print beside us


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Raises `LdmError` for what the system says of a place where nothing can be written."""
    try:
        yield
    except (OSError, ValueError) as error:  # the latter for names that no file can have
        reason = getattr(error, "strerror", None) or error
        raise LdmError(f"cannot write {path}: {reason}; give another place") from error
