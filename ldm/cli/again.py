"""The same picture again: `ldm generate --from PNG`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

from ldm.cli.arguments import has_compiler
from ldm.cli.output import save_output, tell
from ldm.cli.painting import devices, given_file, load_model, paint, read_given, surroundings
from ldm.errors import LdmError
from ldm.record import File, Group, differences, read_record

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def paint_again(options: argparse.Namespace) -> None:
    """Paint what the record says, here and now; say what differs from then, and whether it shows."""
    then = read_record(options.picture)
    name = options.model or then.model
    device = options.device or (then.device if then.device in devices() else None)
    config = found(options.config, then.config, "config")
    read_with = {
        "config": None if config is None else Path(config.path),
        "weights": then.weights,
        "prediction": then.prediction,
    }
    # The trace looks into the U-Net as it is written.
    compiled = then.compiled and options.trace is None and has_compiler()
    model = load_model(name, then.dtype, device, compiled, **read_with)
    now = replace(
        then,
        init=found(options.init, then.init, "init"),
        mask=found(options.mask, then.mask, "mask"),
        config=config,
        traced=options.trace is not None,
        compiled=compiled,
        **surroundings(model, name),
    )
    if now.traced:
        now = replace(now, group=Group(0, 1))  # one picture is looked at
    changed = differences(then, now)
    for difference in changed:
        tell(f"not as it was: {difference}")
    image = paint(model, now, read_given(now), options.trace)[now.group.index]
    save_output(image, options.out, str(now.seed), 0, 1, now)
    compare(image, options.picture)


def found(given: Path | None, then: File | None, name: str) -> File | None:
    """A file that a picture was made with: where the record says it was, or where the caller says it is now."""
    if then is None:
        if given is not None:
            raise LdmError(f"--{name} {given}, but the picture was painted without any; leave --{name} out")
        return None
    try:
        return given_file(Path(then.path) if given is None else given)
    except LdmError as error:
        raise LdmError(f"{error}; --{name} FILE tells where it is now") from error


def compare(image: Picture, path: Path) -> None:
    """Say how far a picture is from the one in a file."""
    try:
        before: Picture = Image.open(path).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise LdmError(
            f"{path} is damaged, so the new picture cannot be compared with it ({error})"
        ) from error
    if before.size != image.size:
        tell(f"{path} was resized since it was painted: it cannot be compared")
        return
    largest = max(ImageChops.difference(image, before).tobytes())
    tell(f"the same pixels as {path}" if largest == 0 else f"up to {largest} of 255 away from {path}")
