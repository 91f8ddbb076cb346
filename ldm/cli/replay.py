r"""The same image again: `ldm generate --from PNG`.

The image may be a stranger's, and its record names files and says how much to compute. Nobody who repeats an image
expects a private photo to be read, or the machine to be busy for a week. So unless the command line repeats what the
record asks for,

- files and models are found by plain names only: models under weights/, and anything in the folder of the image;
- they are used only if their hashes are the recorded ones: whoever made the record already had these bytes;
- no more is computed than one group of ordinary size.

The images of a record's group are all generated, and one is kept (`ldm.cli.new` says why).
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from PIL import Image, ImageChops

from ldm.adapters.tags import split_strength
from ldm.checkpoints.lora_file import lora_file
from ldm.checkpoints.opening import is_own_folder
from ldm.cli.controls import hashed_control, load_controls
from ldm.cli.generation import generate_group, load_model, read_inputs, split_word, surroundings
from ldm.cli.hashes import files_of, hashed, hashed_files
from ldm.cli.output import save_output, tell
from ldm.cli.preview import make_preview
from ldm.cli.refiner import load_refiner
from ldm.errors import LdmError
from ldm.images.metadata import (
    File,
    Group,
    Record,
    UsedControl,
    UsedEmbedding,
    UsedLora,
    UsedRefiner,
    differences,
    read_record,
)
from ldm.loading import find, read_device, weights_folders

MOST_STEPS = 1000
MOST_BATCH = 16
MOST_CONTROLS = 4  # each is half as large as its U-Net
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
        elif given not in (None, value):
            raise LdmError(
                f"{options.source} records {name} = {shown}, and {option} can only repeat that; leave it out"
            )
    if missing:
        raise LdmError(
            f"{options.source} asks for more than is computed unasked; to allow it, add {' '.join(missing)}"
        )


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


def recorded_loras(record: Record, options: argparse.Namespace) -> tuple[UsedLora, ...]:
    """The LoRAs of a record: those on the command line in their place, or the recorded ones."""
    given = [split_strength(text) for text in options.lora or ()]
    if not given:
        files = [File(lora.path, lora.sha256) for lora in record.loras]
        places = [find_recorded("lora", file.path, (file,), options.source) for file in files]
        return tuple(replace(lora, path=place) for lora, place in zip(record.loras, places, strict=True))
    if len(given) != len(record.loras):
        raise LdmError(
            f"{len(given)} times --lora, but {options.source} was generated with {len(record.loras)}; give a file for "
            "each of them, in their order, or leave --lora out"
        )
    loras = []
    for lora, text, (name, strength) in zip(record.loras, options.lora, given, strict=True):
        if name != text and strength != lora.strength:
            raise LdmError(
                f"{options.source} records a LoRA of strength {lora.strength:g}, and --lora {text} can only repeat "
                "that; leave the strength out"
            )
        path = lora_file(Path(name))
        loras.append(replace(lora, path=str(path), sha256=hashed(path).sha256))
    return tuple(loras)


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
            raise LdmError(
                f"{len(given)} times --{option}, but {options.source} was generated with {len(files)} ControlNets; "
                f"give a file for each of them, in their order, or leave --{option} out"
            )
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


def recorded_embeddings(record: Record, options: argparse.Namespace) -> tuple[UsedEmbedding, ...]:
    """The learned words of a record: files on the command line in their place, or the recorded ones."""
    given = options.embedding or ()
    if not given:
        files = [File(one.path, one.sha256) for one in record.embeddings]
        places = [find_recorded("embedding", file.path, (file,), options.source) for file in files]
        return tuple(replace(one, path=place) for one, place in zip(record.embeddings, places, strict=True))
    if len(given) != len(record.embeddings):
        raise LdmError(
            f"{len(given)} times --embedding, but {options.source} was generated with {len(record.embeddings)}; give a "
            "file for each of them, in their order, or leave --embedding out"
        )
    embeddings = []
    for one, text in zip(record.embeddings, given, strict=True):
        name, word = split_word(text)
        if word not in (None, *one.words):
            raise LdmError(
                f"{options.source} records the word {' or '.join(one.words)}, and --embedding {text} can only repeat "
                "that; leave the word out"
            )
        file = hashed(Path(name))
        embeddings.append(replace(one, path=file.path, sha256=file.sha256))
    return tuple(embeddings)


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
    windows = PureWindowsPath(name)  # which also knows `/`
    if windows.anchor or ".." in windows.parts or set(name) & set(":\0") or name[:1] in ("", "~"):
        return None
    weights = {folder.resolve() for folder in weights_folders()}
    for place in (name, str(source.parent / Path(name).name)):
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
