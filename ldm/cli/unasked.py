r"""What a record may have done unasked: the image may be a stranger's, and the record is what the stranger chose.

It names files, and says how much to compute. Whoever repeats an image does not expect that a private photo is read and
shows in the result, or that the machine is busy for a week. So unasked

- a model is taken from weights/, and any other file from the folder of the image, by its name alone;
- it is taken only if its bytes are those that the record tells by their hash: whoever made the record had them already;
- no more is computed than what `ldm generate` makes in a single group of ordinary size.

Anything else has to be typed: the error says what.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path, PureWindowsPath

from ldm.cli.output import tell
from ldm.cli.painting import files_of, given_file
from ldm.errors import LdmError
from ldm.images.metadata import File, Record
from ldm.loading import find, weights_folders

MOST_STEPS = 1000
MOST_BATCH = 16
MOST_PIXELS = 2**22  # of all images of a group: four of 1024x1024
LONGEST_PROMPT = 20_000  # characters, where a prompt is read in chunks: some 60 of them


def check_effort(record: Record, options: argparse.Namespace) -> None:
    """Raise `LdmError` if the record asks for a lot, unless the same is asked for in `options`."""
    count = 1 if options.trace is not None else record.group.count
    chunks = record.long_prompt == "chunk"
    size = record.width, record.height
    # What it says, whether it is a lot, and how that is typed.
    asked: dict[str, tuple[object, bool, str]] = {
        "steps": (record.steps, record.steps > MOST_STEPS, str(record.steps)),
        "size": (size, size[0] * size[1] * count > MOST_PIXELS, f"{size[0]}x{size[1]}"),
        "batch": (record.group.count, count > MOST_BATCH, str(record.group.count)),
        "long_prompt": (
            record.long_prompt,
            chunks and len(record.prompt) + len(record.negative) > LONGEST_PROMPT,
            record.long_prompt,
        ),
        "compile": (record.compiled, False, ""),
    }
    missing = []
    for name, (recorded, much, typed) in asked.items():
        given, option = getattr(options, name), f"--{name.replace('_', '-')} {typed}".strip()
        if given is None and much:
            missing.append(option)
        elif given is not None and given != recorded:
            said = f"recorded is {option}" if typed else "it was made without"
            raise LdmError(
                f"--{name.replace('_', '-')} may only repeat what {options.picture} says, and {said}; leave it out"
            )
    if missing:
        raise LdmError(
            f"{options.picture} asks for more than is computed unasked; to allow it, add {' '.join(missing)}"
        )
    if record.compiled and not options.compile and options.trace is None:
        tell("its U-Net was compiled, which is not done unasked: add --compile to compile it again")


def recorded_model(
    name: str, files: tuple[File, ...], patterns: tuple[str, ...], option: str, picture: Path
) -> str:
    """The model that a record names, if it may be taken unasked; else an `LdmError` says how to ask for it.

    `files` are those that the record lists, `patterns` where to look for them in a folder.
    """
    ask = f"add --{option} {shlex.quote(name)} to take it, or say where it is now"
    places = [folder.resolve() for folder in weights_folders()]
    if _is_plain(name, most=2):
        place = find(name)
        inside = [parent.resolve() for parent in place.absolute().parents]
        if any(folder in inside for folder in places) or picture.resolve().parent in place.resolve().parents:
            now = {file.path: file.sha256 for file in files_of(name, patterns)}
            other = next((file for file in files if now.get(file.path) != file.sha256), None)
            if files and other is None:
                return name
            what = "the record lists no files" if other is None else _unlike(other, now.get(other.path))
            raise LdmError(f"{place} is not known to be the model that made {picture} ({what}); {ask}")
    raise LdmError(
        f"{picture} was made with the model {name!r}, which is neither a name under weights/ nor beside it; {ask}"
    )


def recorded_file(given: Path | None, then: File | None, option: str, picture: Path) -> File | None:
    """A file that an image was made from: where the caller says it is now, or beside the image."""
    if then is None:
        if given is not None:
            raise LdmError(
                f"--{option} {given}, but the picture was painted without any; leave --{option} out"
            )
        return None
    if given is not None:
        return given_file(given)
    place = _beside(then.path, picture)
    if place is None:
        raise LdmError(
            f"{picture} was made from {then.path!r}, which does not lie beside it, and other files are not read "
            f"unasked; add --{option} {shlex.quote(then.path)}, or say where it is now"
        )
    now = given_file(place)
    if now.sha256 != then.sha256:
        raise LdmError(
            f"{place} is not what {picture} was made from ({_unlike(then, now.sha256)}); add --{option} "
            f"{shlex.quote(str(place))} to take it all the same, or say where the other is now"
        )
    return now


def _beside(name: str, picture: Path) -> Path | None:
    """The file that a record names, if it is in the folder of the image; no link may lead out of there."""
    folder = picture.resolve().parent
    for place in (Path(name), picture.parent / Path(name).name) if _is_plain(name) else ():
        try:
            if place.exists() and place.resolve().parent == folder:
                return place
        except (OSError, ValueError, RuntimeError):  # too long a name, links in a circle
            continue
    return None


def _is_plain(name: str, most: int | None = None) -> bool:
    """Whether a name stays below the working folder on any system, and has at most `most` parts."""
    windows = PureWindowsPath(name)  # which also knows `/`
    return (
        not (windows.drive or windows.root or ":" in name or "\0" in name or name.startswith("~"))
        and 0 < len(windows.parts) <= (most or len(name))
        and ".." not in windows.parts
    )


def _unlike(then: File, now: str | None) -> str:
    return f"{then.path}: sha256 {then.sha256[:10]} then, {(now or 'none')[:10]} now"
