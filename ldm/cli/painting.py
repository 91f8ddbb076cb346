"""What painting a new picture and painting one again share: a model, a description of the picture, and the call."""

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
from ldm.cli.hashes import remembered_sha256
from ldm.cli.output import progress_bar, tell
from ldm.diffusion.noise import check_seed
from ldm.errors import LdmError, printable
from ldm.images.metadata import File, Record, Versions, sha256
from ldm.loading import find
from ldm.pipeline import LatentDiffusion
from ldm.repaint import pick_strength
from ldm.text.unknown import unknown_words

if TYPE_CHECKING:
    from PIL.Image import Image

    from ldm.diffusion.sample import Step

    Progress = Callable[[Iterator[Step], int], Iterable[Step]]

# The files that painting reads of a model's folder: of ours, then of diffusers'.
OUR_FILES = ("config.json", "tokenizer/*", "text.safetensors", "unet.safetensors", "vae.safetensors")
DIFFUSERS_FILES = ("model_index.json", "*/*.json", "*/*.txt", "*/*.safetensors", "*/*.bin")
# Those of a VAE, in a folder of a whole model or in its own.
VAE_FILES = ("config.json", "vae.safetensors", "vae/*.*", "diffusion_pytorch_model*")


def load_model(
    name: str,
    dtype: str | None = None,
    device: str | None = None,
    compiled: bool | None = None,
    **read_with: Any,
) -> LatentDiffusion:
    """The model, as the command line names it. Raises `LdmError` also for a device that is not there.

    `compiled` has torch compile its U-Net, when it is first used. `read_with`: how `ldm.load` is to read the files,
    as from `ldm.cli.arguments.loading`.
    """
    if device is not None and device not in devices():
        here = ", ".join(devices())
        raise LdmError(
            f"device {device!r} is not here; expected one of {here}; without --device the fastest is taken"
        )
    quick_products()
    with readable(name):
        model = ldm.load(name, dtype=dtype, device=device, **read_with)
    if compiled:
        model.unet.compile()
    return model


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Raises `LdmError` for what happens when a model is read that files cannot have, or may not be read."""
    try:
        yield
    except (OSError, ValueError) as error:  # too long a name, somebody else's folder, bytes for text
        raise LdmError(
            f"cannot read the model {name!r} ({error}); give another, or fetch it again"
        ) from error


def devices() -> list[str]:
    """The devices of this machine that torch can compute on."""
    cards = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    apple = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(["cuda", *cards] if cards else []), *apple]


def surroundings(model: LatentDiffusion, name: str, vae: str | None = None) -> dict[str, Any]:
    """The part of a `Record` that nobody chose for the picture: which files, programs and machine made it."""
    return {
        "model": name,
        "model_files": files_of(name, OUR_FILES + DIFFUSERS_FILES),
        "vae": vae,
        "vae_files": () if vae is None else files_of(vae, VAE_FILES),
        "versions": Versions(ldm.__version__, torch.__version__, platform.python_version(), PIL.__version__),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
    }


def files_of(name: str, patterns: tuple[str, ...]) -> tuple[File, ...]:
    """The files of a model, by their paths in its folder, with their hashes: the file itself, or those of a folder."""
    place = find(name)
    if place.is_file():
        files, root = [place], place.parent
    else:
        files, root = sorted({path for pattern in patterns for path in place.glob(pattern)}), place
    return tuple(File(path.relative_to(root).as_posix(), remembered_sha256(path)) for path in files)


def given_file(path: Path) -> File:
    """A picture to start from, a mask, or a config, as the record names it."""
    try:
        return File(str(path), sha256(path))
    except LdmError as error:
        raise LdmError(f"{error}; give another file") from error


def read_given(record: Record) -> dict[str, Any]:
    """What `generate` takes for a picture to start from. It fits them to the size itself; here that is told."""
    if record.init is None:
        return {}

    from ldm.images.reading import read_mask, read_picture

    given: dict[str, Any] = {"keep_pixels": record.keep_pixels}
    for name, file, read in (("init", record.init, read_picture), ("mask", record.mask, read_mask)):
        if file is not None:
            given[name] = read(file.path)
            width, height = given[name].size
            if (width, height) != (record.width, record.height):
                size = f"{record.width}x{record.height}"
                tell(f"{file.path} is {width}x{height} pixels: scaled, and cut to its middle {size}")
    # The usual strength is told as well: what it is today is recorded, whatever it will be tomorrow.
    given["strength"] = pick_strength(given["init"], record.strength, given.get("mask"), record.keep_pixels)
    return given


def check_words(model: LatentDiffusion, *texts: str) -> None:
    """Name the words that the model has never read."""
    words = list(dict.fromkeys(word for text in texts for word in unknown_words(model.tokenizer, text)))
    if words:
        named = ", ".join(word if len(word) <= 40 else f"{word[:40]}..." for word in words[:10])
        more = f" and {len(words) - 10} more" if len(words) > 10 else ""
        tell(f"this model has never seen the words: {named}{more}; what it paints for them means nothing")


def check_size(model: LatentDiffusion, size: tuple[int, int] | None) -> None:
    """Say so if a size was asked for that is not the one that the model was trained at."""
    own = model.config.defaults.size
    if size not in (None, (own, own)):
        tell(f"this model was trained at {own}x{own}; at other sizes it may repeat itself")


def paint(
    model: LatentDiffusion,
    record: Record,
    given: dict[str, Any],
    trace: Path | None = None,
    prompts: Sequence[str] | None = None,
) -> list[Image]:
    """All pictures of the record's group; `given` as from `read_given`, `trace` a folder for a report.

    `prompts` has a prompt for each picture, if they are not all the record's.
    """
    size, seed = (record.width, record.height), record.seed - record.group.index
    check_seed(seed)  # to `generate`, -1 would mean another picture each time

    def painted(progress: Progress) -> list[Image]:
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
            **given,
        )

    try:
        return painted(progress_bar) if trace is None else paint_traced(model, record, painted, trace)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("memory", str(error), re.IGNORECASE):
            raise
        raise LdmError(
            f"not enough memory for {record.group.count} pictures of {size[0]}x{size[1]} pixels at once; "
            "make them smaller or fewer"
        ) from error


def paint_traced(
    model: LatentDiffusion, what: Record, painted: Callable[[Progress], list[Image]], folder: Path
) -> list[Image]:
    """The same pictures, and a report on them in `folder`."""
    from ldm.lab.trace.recorder import record
    from ldm.lab.trace.report import write_report

    with record(model, what.prompt, what.weighting) as recording:
        images = painted(recording.watch(progress_bar))
    for path in write_report(recording, images, folder):
        print(printable(str(path)))
    return images
