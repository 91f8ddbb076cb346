r"""The same image again: `ldm generate --from PNG`.

The image may be a stranger's, and its record names files (`recorded.py`) and says how much to compute. Nobody who
repeats an image expects the machine to be busy for a week: unless the command line repeats what the record asks for, no
more is computed than one group of ordinary size.

The images of a record's group are all generated, and one is kept (`ldm.cli.new` says why).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageChops

from ldm.backend.choice import read_device
from ldm.checkpoints.finding import find
from ldm.checkpoints.opening import is_own_folder
from ldm.cli.controls import load_controls
from ldm.cli.generation import generate_group, load_model, read_inputs, surroundings
from ldm.cli.hashes import files_of
from ldm.cli.output import save_output, tell
from ldm.cli.preview import make_preview
from ldm.cli.recorded import (
    find_recorded,
    recorded_controls,
    recorded_embeddings,
    recorded_file,
    recorded_loras,
    recorded_refiner,
)
from ldm.cli.refiner import load_refiner
from ldm.errors import LdmError
from ldm.images.metadata import Group, Record, differences, read_record

MOST_STEPS = 1000
MOST_BATCH = 16
MOST_PIXELS = 2**22  # of all images of a group: four of 1024x1024
MOST_WINDOWS = 100  # in which the U-Net works at one step, for all images together
LONGEST_PROMPT = 20_000  # characters of a prompt that is read in chunks: about 60 chunks


def replay(options: argparse.Namespace) -> None:
    """Generate an image from its record; say what differs from then, and whether it shows."""
    source, then = options.source, read_record(options.source)
    check_effort(then, options)
    # Everything is found, and its hash compared, before anything is opened.
    init, mask, config = (recorded_file(name, then, options) for name in ("init", "mask", "config"))
    loras, embeddings = recorded_loras(then, options), recorded_embeddings(then, options)
    controls, refiner = recorded_controls(then, options), recorded_refiner(then, options)
    name = options.model or find_recorded("model", then.model, then.model_files, source)
    vae: str | None = options.vae
    if vae is None and then.vae is not None:
        vae = find_recorded("vae", then.vae, then.vae_files, source)
    unet: str | None = options.unet
    if unet is None and then.unet is not None:
        unet = find_recorded("unet", then.unet, then.unet_files, source)
    compiled = bool(options.compile)
    model = load_model(
        name,
        then.dtype,
        options.device or available(then.device),
        compiled,
        then.int8,
        config=config and Path(config.path),
        weights=None if is_own_folder(find(name)) else then.weights,
        prediction=then.prediction,
        vae=vae,
        unet=unet,
    )
    traced = options.trace is not None
    group = Group(0, 1) if traced else then.group  # a trace shows one image
    now = replace(then, init=init, mask=mask, config=config, traced=traced, compiled=compiled, group=group)
    now = replace(now, loras=loras, embeddings=embeddings, controls=controls, refiner=refiner)
    now = replace(now, **surroundings(model, name, vae, unet), **files_of(name, vae, unet))
    for difference in differences(then, now):
        tell(f"differs: {difference}")
    inputs = read_inputs(now)
    if now.controls:
        inputs["control"] = load_controls(model, now)
    if now.refiner:
        inputs["refiner"] = load_refiner(model, now, compiled)
    preview = make_preview(options, model)
    image = generate_group(model, now, inputs, options.trace, preview=preview)[now.group.index]
    save_output(image, options.out, str(now.seed), 0, 1, now)
    compare(image, source)


def available(device: str) -> str | None:
    """The device, if this machine has it."""
    try:
        return str(read_device(device))
    except LdmError:
        return None


def compare(image: Image.Image, path: Path) -> None:
    """Say how far an image is from the one in a file."""
    try:
        with Image.open(path, formats=("PNG",)) as file:
            if file.size != image.size:  # and it is not decoded
                tell(f"{path} was resized after it was generated, so it cannot be compared")
                return
            before: Image.Image = file.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise LdmError(f"{path} is damaged, so the new image cannot be compared with it ({error})") from error
    largest = max(ImageChops.difference(image, before).tobytes())
    tell(
        f"the same pixels as {path}" if largest == 0 else f"pixels differ from {path} by up to {largest}/255"
    )


def check_effort(record: Record, options: argparse.Namespace) -> None:
    """Raise `LdmError` if the record asks for a lot of work that `options` do not repeat, or if they contradict it."""
    size, count = (record.width, record.height), 1 if options.trace is not None else record.group.count
    pixels = size[0] * size[1] * count * max(1.0, record.hires or 1.0) ** 2
    many = record.window is not None and pixels > MOST_WINDOWS * record.window**2 / 4
    long = record.long_prompt == "chunk" and len(record.prompt) + len(record.negative) > LONGEST_PROMPT
    recorded: dict[str, tuple[object, bool]] = {  # and whether it is too much to compute unasked
        "steps": (record.steps, record.steps > MOST_STEPS),
        "size": (size, pixels > MOST_PIXELS),
        "batch": (record.group.count, count > MOST_BATCH),
        "long_prompt": (record.long_prompt, long),
        "window": (record.window, many),
        "compile": (record.compiled, False),
    }
    missing = []
    for name, (value, is_much) in recorded.items():
        option, given = f"--{name.replace('_', '-')}", getattr(options, name)
        shown = "x".join(map(str, size)) if name == "size" else value
        if given is None and is_much:
            missing.append(f"{option} {shown}")
        elif given is not None and value in (None, False):
            raise LdmError(f"{options.source} was generated without {option}; leave it out")
        elif given not in (None, value):
            raise LdmError(
                f"{options.source} records {name} = {shown}, and {option} can only repeat that; leave it out"
            )
    if missing:
        raise LdmError(
            f"{options.source} asks for more than is computed unasked; to allow it, add {' '.join(missing)}"
        )
