"""The same picture again: `ldm generate --from PNG`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

from ldm.checkpoints.opening import is_own_folder
from ldm.cli.output import save_output, tell
from ldm.cli.painting import (
    DIFFUSERS_FILES,
    OUR_FILES,
    VAE_FILES,
    devices,
    load_model,
    paint,
    read_given,
    surroundings,
)
from ldm.cli.unasked import check_effort, recorded_file, recorded_model
from ldm.errors import LdmError
from ldm.images.metadata import Group, differences, read_record
from ldm.loading import find

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def paint_again(options: argparse.Namespace) -> None:
    """Paint what the record says, here and now; say what differs from then, and whether it shows."""
    then = read_record(options.picture)
    check_effort(then, options)
    # All is found, and its hash compared, before any of it is opened.
    init = recorded_file(options.init, then.init, "init", options.picture)
    mask = recorded_file(options.mask, then.mask, "mask", options.picture)
    config = recorded_file(options.config, then.config, "config", options.picture)
    patterns = OUR_FILES + DIFFUSERS_FILES
    name = options.model or recorded_model(then.model, then.model_files, patterns, "model", options.picture)
    vae = (
        options.vae
        or then.vae
        and recorded_model(then.vae, then.vae_files, VAE_FILES, "vae", options.picture)
    )
    device = options.device or (then.device if then.device in devices() else None)
    read_with = {
        "config": None if config is None else Path(config.path),
        "weights": None if is_own_folder(find(name)) else then.weights,
        "prediction": then.prediction,
        "vae": vae,
    }
    compiled = bool(options.compile)
    model = load_model(name, then.dtype, device, compiled, **read_with)
    now = replace(
        then,
        init=init,
        mask=mask,
        config=config,
        traced=options.trace is not None,
        compiled=compiled,
        **surroundings(model, name, vae),
    )
    if now.traced:
        now = replace(now, group=Group(0, 1))  # one picture is looked at
    changed = differences(then, now)
    for difference in changed:
        tell(f"not as it was: {difference}")
    image = paint(model, now, read_given(now), options.trace)[now.group.index]
    save_output(image, options.out, str(now.seed), 0, 1, now)
    compare(image, options.picture)


def compare(image: Picture, path: Path) -> None:
    """Say how far a picture is from the one in a file."""
    try:
        with Image.open(path, formats=("PNG",)) as file:
            if file.size != image.size:  # and it is not unpacked
                tell(f"{path} was resized since it was painted: it cannot be compared")
                return
            before: Picture = file.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise LdmError(
            f"{path} is damaged, so the new picture cannot be compared with it ({error})"
        ) from error
    largest = max(ImageChops.difference(image, before).tobytes())
    tell(f"the same pixels as {path}" if largest == 0 else f"up to {largest} of 255 away from {path}")
