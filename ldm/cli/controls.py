"""ControlNets on the command line: from its options into a record, and from a record into `generate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ldm.adapters.control import Control
from ldm.checkpoints.control_file import open_control
from ldm.checkpoints.loaded import LoadedModel
from ldm.cli.generation import from_here, tell_of_size
from ldm.cli.hashes import cached_sha256, hashed
from ldm.images.metadata import Record, UsedControl
from ldm.images.reading import read_mask, read_picture
from ldm.loading import load_control

DEFAULTS = {"strength": 1.0, "start": 0.0, "end": 1.0, "prepare": None}


def wanted_controls(options: argparse.Namespace) -> tuple[UsedControl, ...]:
    """The ControlNets of the command line with their images, hashed. Raises `LdmError` for what is none."""
    count = len(options.control or ())

    def each(name: str, default: Any) -> list[Any]:
        given = getattr(options, name) or [default]
        return list(given) * count if len(given) == 1 else list(given)

    values = (each(f"control_{name}", default) for name, default in DEFAULTS.items())
    return tuple(
        UsedControl(
            *hashed_control(path), hashed(image), strength, start, end, bool(options.control_guess), prepare
        )
        for path, image, strength, start, end, prepare in zip(
            options.control or (), options.control_image or (), *values, strict=True
        )
    )


def hashed_control(path: Path) -> tuple[str, str]:
    """A ControlNet's file, of a folder the one in it, as a record names it; and its hash."""
    file = open_control(path).part.source
    return from_here(file), cached_sha256(file)


def load_controls(model: LoadedModel, record: Record) -> list[Control]:
    """The ControlNets of a record, with their images, ready for `generate`."""
    controls = []
    for used in record.controls:
        image = read_picture(used.image.path)
        tell_of_size(image, used.image.path, record)
        mask = read_mask(record.mask.path) if record.mask and used.prepare == "inpaint" else None
        network = load_control(used.path, model)
        controls.append(
            Control(network, image, used.strength, used.start, used.end, used.guess, used.prepare, mask)
        )
    return controls
