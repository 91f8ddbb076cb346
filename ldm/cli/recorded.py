r"""Which files and models a record may use: those on the command line, or the recorded ones where they can be trusted.

The image may be a stranger's, and its record names files. Nobody who repeats an image expects a private photo to be
read. So unless the command line names a file,

- models are found under weights/, and anything in the folder of the image by its last name, wherever it was then;
- they are used only if their hashes are the recorded ones: whoever made the record already had these bytes.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import TypeVar

from ldm.adapters.tags import split_strength
from ldm.checkpoints.finding import find, weights_folders
from ldm.checkpoints.lora_file import lora_file
from ldm.cli.controls import hashed_control
from ldm.cli.generation import split_word
from ldm.cli.hashes import hashed, hashed_files
from ldm.errors import LdmError
from ldm.images.metadata import File, Record, UsedControl, UsedEmbedding, UsedLora, UsedRefiner

MOST_CONTROLS = 4  # each is half as large as its U-Net

Used = TypeVar("Used", UsedLora, UsedEmbedding)


def recorded_file(option: str, record: Record, options: argparse.Namespace) -> File | None:
    """The init image, mask or config of a record: the one on the command line, or the recorded one."""
    file: File | None = getattr(record, option)
    given: Path | None = getattr(options, option)
    if file is None and given is not None:
        raise LdmError(
            f"--{option} {given}, but {options.source} was generated without one; leave --{option} out"
        )
    if file is None:
        return None
    return hashed(given or Path(find_recorded(option, file.path, (file,), options.source)))


def recorded_adapters(
    option: str, used: Sequence[Used], options: argparse.Namespace
) -> tuple[Used, ...] | None:
    """The LoRAs or learned words of a record where they are now; None if the command line gives others in their place.

    Raises `LdmError` if it gives another number of them.
    """
    given = getattr(options, option)
    if not given:
        places = [
            find_recorded(option, one.path, (File(one.path, one.sha256),), options.source) for one in used
        ]
        return tuple(replace(one, path=place) for one, place in zip(used, places, strict=True))
    if len(given) != len(used):
        raise LdmError(miscounted(option, given, len(used), options.source))
    return None


def miscounted(option: str, given: Sequence[object], count: int, source: Path) -> str:
    """What to say of an option that was not given once for each file that the record has of its kind."""
    if count == 0:
        return f"--{option} {given[0]}, but {source} was generated without one; leave --{option} out"
    times = "once" if count == 1 else f"{count} times, in the recorded order"
    return f"{source} was generated with {count} of --{option}, not {len(given)}; give it {times}, or leave it out"


def recorded_loras(record: Record, options: argparse.Namespace) -> tuple[UsedLora, ...]:
    """The LoRAs of a record: those on the command line in their place, or the recorded ones."""
    if (found := recorded_adapters("lora", record.loras, options)) is not None:
        return found
    loras = []
    for lora, text in zip(record.loras, options.lora, strict=True):
        name, strength = split_strength(text)
        if name != text and strength != lora.strength:
            raise LdmError(
                f"{options.source} records a LoRA of strength {lora.strength:g}, and --lora {text} can only repeat "
                "that; leave the strength out"
            )
        path = lora_file(Path(name))
        loras.append(replace(lora, path=str(path), sha256=hashed(path).sha256))
    return tuple(loras)


def recorded_embeddings(record: Record, options: argparse.Namespace) -> tuple[UsedEmbedding, ...]:
    """The learned words of a record: files on the command line in their place, or the recorded ones."""
    if (found := recorded_adapters("embedding", record.embeddings, options)) is not None:
        return found
    embeddings = []
    for one, text in zip(record.embeddings, options.embedding, strict=True):
        name, word = split_word(text)
        if word not in (None, *one.words):
            raise LdmError(
                f"{options.source} records the word {' or '.join(one.words)}, and --embedding {text} can only repeat "
                "that; leave the word out"
            )
        file = hashed(Path(name))
        embeddings.append(replace(one, path=file.path, sha256=file.sha256))
    return tuple(embeddings)


def recorded_controls(record: Record, options: argparse.Namespace) -> tuple[UsedControl, ...]:
    """The ControlNets of a record and their images: those on the command line in their place, or the recorded ones."""
    recorded = {
        "control": [File(used.path, used.sha256) for used in record.controls],
        "control_image": [used.image for used in record.controls],
    }
    found: dict[str, list[File]] = {}
    for name, files in recorded.items():
        option, given = name.replace("_", "-"), getattr(options, name) or ()
        if len(given) not in (0, len(files)):
            raise LdmError(miscounted(option, given, len(files), options.source))
        if not given and len(files) > MOST_CONTROLS:
            raise LdmError(
                f"{options.source} asks for {len(files)} ControlNets, more than are loaded unasked; to allow it, add "
                f"--{option} for each of them"
            )
        if not given:
            given = [Path(find_recorded(option, file.path, (file,), options.source)) for file in files]
        found[name] = [File(*hashed_control(path)) if name == "control" else hashed(path) for path in given]
    return tuple(
        replace(used, path=file.path, sha256=file.sha256, image=image)
        for used, file, image in zip(record.controls, *found.values(), strict=True)
    )


def recorded_refiner(record: Record, options: argparse.Namespace) -> UsedRefiner | None:
    """The refiner of a record: the one on the command line in its place, or the recorded one."""
    used, given = record.refiner, options.refiner
    if used is None:
        if given is not None:
            raise LdmError(
                f"--refiner {given}, but {options.source} was generated without one; leave --refiner out"
            )
        return None
    for option in ("trace", "preview"):
        if getattr(options, option) is not None:
            raise LdmError(f"--{option} shows one model, and {options.source} has two: leave out --{option}")
    model = given or find_recorded("refiner", used.model, used.files, options.source)
    return replace(used, model=model, files=hashed_files(model, "model"))


def find_recorded(option: str, name: str, files: Sequence[File], source: Path) -> str:
    """Where a recorded file, model or VAE may be taken from unasked. Its bytes are the recorded ones.

    Raises `LdmError` that says how to ask for anything else.
    """
    kind = {"model": "model", "refiner": "model", "vae": "vae", "unet": "unet"}.get(
        option
    )  # None: a single file
    place = trusted_place(name, source, find if kind else Path)
    hint = f"add --{option} {shlex.quote(place or name)} to use it, or say where it is now"
    if place is None:
        raise LdmError(
            f"{source} was made with {name!r}, which is neither a name under weights/ nor beside it; {hint}"
        )
    found = hashed_files(place, kind) if kind else (hashed(Path(place)),)
    others = [file.path for file in files if file.sha256 not in {now.sha256 for now in found}]
    if others or not files:
        reason = f"{others[0]} has another sha256" if others else "the record lists no files"
        raise LdmError(f"{place} is not known to be what {source} was made with ({reason}); {hint}")
    return place


def trusted_place(name: str, source: Path, locate: Callable[[str], Path]) -> str | None:
    """A recorded name, if it means something under weights/, or in the folder of the image with no link out of it."""
    last = Path(name).name
    places = [place for place, part in ((name, name), (str(source.parent / last), last)) if is_plain(part)]
    weights = {folder.resolve() for folder in weights_folders()}
    for place in places:
        try:
            found = locate(place)
            if not found.exists():
                continue
            inside = {folder.resolve() for folder in found.absolute().parents}
            if weights & inside or source.resolve().parent in found.resolve().parents:
                return place
        except (LdmError, OSError, ValueError, RuntimeError):  # too long a name, links in a circle
            continue
    return None


def is_plain(name: str) -> bool:
    """Whether a name leads down from a folder: no root, no drive or stream of Windows, no `..`, no home."""
    windows = PureWindowsPath(name)  # which also knows `/`
    return not (windows.anchor or ".." in windows.parts or set(name) & set(":\0") or name[:1] in ("", "~"))
