"""What new images and replayed ones share: loading a model, describing it in a record, generating one group."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL
import torch

import ldm
from ldm.backend.matmul import quick_products
from ldm.cli.hashes import cached_sha256
from ldm.cli.output import progress_bar, tell
from ldm.diffusion.noise import check_seed
from ldm.errors import LdmError, printable
from ldm.image_to_image import pick_strength
from ldm.images.metadata import File, Record, Versions, sha256
from ldm.loading import find
from ldm.pipeline import LatentDiffusion

if TYPE_CHECKING:
    from PIL.Image import Image

    from ldm.diffusion.sample import Step

    Progress = Callable[[Iterator[Step], int], Iterable[Step]]

# The files of a model's folder that decide what it generates: those of our own layout, then of diffusers'.
MODEL_FILES = (
    "config.json", "tokenizer/*", "text.safetensors", "unet.safetensors", "vae.safetensors",
    "model_index.json", "*/*.json", "*/*.txt", "*/*.safetensors", "*/*.bin",
)  # fmt: skip
# Those of its VAE alone, in the folder of a whole model or in a folder of its own.
VAE_FILES = ("config.json", "vae.safetensors", "vae/*.*", "diffusion_pytorch_model*")


def load_model(
    name: str,
    dtype: str | None = None,
    device: str | None = None,
    compiled: bool | None = None,
    **loading: Any,
) -> LatentDiffusion:
    """Load a model as the command line asks for it; `loading` is as from `ldm.cli.arguments.loading`.

    With `compiled`, torch compiles the U-Net when it is first used.
    """
    quick_products()
    with readable(name):
        model = ldm.load(name, dtype=dtype, device=device, **loading)
    if compiled:
        model.unet.compile()
    return model


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what the system says about a model's files into an `LdmError`."""
    try:
        yield
    except (
        OSError,
        ValueError,
    ) as error:  # a name that is too long, missing permissions, bytes instead of text
        raise LdmError(
            f"cannot read the model {name!r} ({error}); give another, or fetch it again"
        ) from error


def surroundings(model: LatentDiffusion, name: str, vae: str | None = None) -> dict[str, Any]:
    """The part of a `Record` that was not chosen for the image: files, versions, and the machine."""
    return {
        "model": name,
        "model_files": hashed_files(name, MODEL_FILES),
        "vae": vae,
        "vae_files": () if vae is None else hashed_files(vae, VAE_FILES),
        "versions": Versions(ldm.__version__, torch.__version__, platform.python_version(), PIL.__version__),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
    }


def hashed_files(name: str, patterns: Sequence[str]) -> tuple[File, ...]:
    """The files of a model with their hashes: a single file itself, or those of a folder that match a pattern."""
    place = find(name)
    if place.is_file():
        return (File(place.name, cached_sha256(place)),)
    paths = sorted({path for pattern in patterns for path in place.glob(pattern)})
    return tuple(File(path.relative_to(place).as_posix(), cached_sha256(path)) for path in paths)


def hashed(path: Path) -> File:
    """An init image, a mask or a config, as a record names it."""
    return File(str(path), sha256(path))


def read_inputs(record: Record) -> dict[str, Any]:
    """The arguments of `generate` that come from the record's init image; empty without one."""
    if record.init is None:
        return {}

    from ldm.images.reading import read_mask, read_picture

    inputs: dict[str, Any] = {"keep_pixels": record.keep_pixels}
    for name, file, read in (("init", record.init, read_picture), ("mask", record.mask, read_mask)):
        if file is not None:
            inputs[name] = read(file.path)
            width, height = inputs[name].size
            if (width, height) != (record.width, record.height):
                size = f"{record.width}x{record.height}"
                tell(f"{file.path} is {width}x{height} pixels: scaled and cropped to the central {size}")
    # The default strength is recorded as a number, so that a later default changes no replay.
    inputs["strength"] = pick_strength(
        inputs["init"], record.strength, inputs.get("mask"), record.keep_pixels
    )
    return inputs


def generate_group(
    model: LatentDiffusion,
    record: Record,
    inputs: dict[str, Any],
    trace: Path | None = None,
    prompts: Sequence[str] | None = None,
) -> list[Image]:
    """All images of the record's group. `inputs` is as from `read_inputs`, `trace` a folder for a report.

    `prompts` are the group's prompts where they differ from the record's.
    """
    size, seed = (record.width, record.height), record.seed - record.group.index
    check_seed(seed)  # `generate` takes -1 for a random seed

    def generate(progress: Progress) -> list[Image]:
        return model.generate(
            prompts or record.prompt,
            record.negative,
            steps=record.steps,
            guidance=record.guidance,
            sampler=record.sampler,
            seed=seed,
            size=size,
            batch=None if prompts else record.group.count,
            tile=record.tile,
            weighting=record.weighting,
            long_prompt=record.long_prompt,
            progress=progress,
            **inputs,
        )

    try:
        return generate(progress_bar) if trace is None else generate_traced(model, record, generate, trace)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("memory", str(error), re.IGNORECASE):
            raise
        raise LdmError(
            f"not enough memory for {record.group.count} images of {size[0]}x{size[1]} pixels at once; "
            "make them smaller or fewer"
        ) from error


def generate_traced(
    model: LatentDiffusion, what: Record, generate: Callable[[Progress], list[Image]], folder: Path
) -> list[Image]:
    """The same images, and a report on how they formed in `folder`."""
    from ldm.lab.trace.recorder import record
    from ldm.lab.trace.report import write_report

    with record(model, what.prompt, what.weighting) as recording:
        images = generate(recording.watch(progress_bar))
    for path in write_report(recording, images, folder):
        print(printable(str(path)))
    return images
