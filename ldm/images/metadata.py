r"""How an image was made, recorded inside its own PNG file.

A PNG can carry texts, each under a key. Ours carries two:

- `parameters`: the lines that AUTOMATIC1111's web interface writes and many programs show. It is meant for people:
  numbers may be rounded, and a prompt with "Steps: 5" on a line of its own can confuse its readers.
- `ldm`: JSON with everything that is needed to generate the same bytes again, and the surroundings (versions, threads,
  hashes of files) that decide whether they will be the same.

Nothing here imports torch, so `ldm info` answers at once. Source: PNG specification, third edition, section 11.3.3
(tEXt, iTXt).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from ldm.errors import LdmError
from ldm.files.read_write import open_regular
from ldm.files.typed_json import Between, from_json_value

KEY = "ldm"
LARGEST_PNG = 2**28  # bytes: more than 8192 x 8192 pixels take
LONGEST_TEXT = 2**22  # characters of a record; a prompt of 100,000 characters takes at most a quarter
LARGEST_GROUP = 1000  # a record that names a larger group was not written here


Pair: TypeAlias = Annotated[tuple[int, ...], Between(2, 2)]


@dataclass(frozen=True)
class File:
    """A file that an image depends on: its path (in a model's folder, relative to it) and the sha256 of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class UsedLora:
    """A LoRA that was merged into the model: its file as it was given or found, the hash of it, and its strength."""

    path: str
    sha256: str
    strength: float


@dataclass(frozen=True)
class UsedControl:
    """A ControlNet: its file and the hash of it, its image, and how it was used (`ldm.adapters.control.Control`)."""

    path: str
    sha256: str
    image: File
    strength: float
    start: float
    end: float
    guess: bool
    prepare: str | None  # what the image was made into; None: it was the hint already


@dataclass(frozen=True)
class UsedEmbedding:
    """A learned word (textual inversion): its file as it was given or found, the hash of it, and its names then."""

    path: str
    sha256: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class UsedRefiner:
    """A second model that finished the sampling (`ldm/refiner.py`): as it was given, its files, and from where on."""

    model: str
    files: tuple[File, ...]
    switch_at: float


@dataclass(frozen=True)
class Group:
    """The images generated together: this one is number `index` (from 0) of `count`.

    An image generated alone differs from the same seed in a group by up to 1/255: sums are split differently, so their
    last bits differ. To get the same bytes, generate the same group.
    """

    index: int
    count: int


@dataclass(frozen=True)
class Versions:
    ldm: str
    torch: str
    python: str
    pillow: str  # it resizes init images and compresses the PNG


@dataclass(frozen=True)
class Record:
    """Everything that decides what one image looks like."""

    prompt: str
    negative: str
    seed: int  # of this image; the group's first is seed - group.index
    sampler: str
    steps: int
    guidance: float
    width: int
    height: int
    group: Group
    init: File | None
    strength: float | None
    mask: File | None
    keep_pixels: bool
    traced: bool  # attention was computed by hand, to be seen: the last bits differ
    model: str  # a name or a path, as it was given
    model_files: tuple[File, ...]
    versions: Versions
    dtype: str
    device: str
    threads: int
    # Newer fields: images without them were generated with these defaults.
    weighting: bool = True  # brackets in the prompt are weights
    long_prompt: str = "truncate"  # or "chunk"
    config: File | None = None  # given in place of the model's own
    weights: str | None = None  # "ema" or "live", if it was chosen
    prediction: str | None = None  # "eps" or "v", unless the model's own config.json says it
    vae: str | None = None  # the model whose VAE replaced the model's own, as it was given
    vae_files: tuple[File, ...] = ()
    unet: str | None = None  # likewise the model whose U-Net replaced the model's own
    unet_files: tuple[File, ...] = ()
    tile: bool = False  # the VAE worked in tiles
    compiled: bool = False  # the U-Net was compiled, which rounds differently
    spacing: str | None = None  # in place of the sampler's own
    clip_skip: int = 1  # the context is from the text encoder's last layer (2: the one before)
    # What Stable Diffusion XL was told, if it was chosen: (width, height), (left, top), (width, height), 0 to 10.
    original_size: Pair | None = None
    crop: Pair | None = None
    target_size: Pair | None = None
    aesthetic_score: float | None = None
    empty_negative: str | None = None  # "encoded" or "zero", if it was chosen
    loras: tuple[UsedLora, ...] = ()  # merged into the model; the prompt does not have their tags
    controls: tuple[UsedControl, ...] = ()
    embeddings: tuple[UsedEmbedding, ...] = ()  # learned words
    window: int | None = None  # the U-Net worked in windows of so many pixels
    # The size above was enlarged so many times, and a second pass made detail: of "pixels" or "latent", how strongly.
    hires: float | None = None
    hires_mode: str | None = None
    hires_strength: float | None = None
    refiner: UsedRefiner | None = None
    # Less work: (low, high), the noise levels between which there was guidance; one evaluation in so many was whole.
    guidance_interval: Annotated[tuple[float, ...], Between(2, 2)] | None = None
    reuse: int | None = None
    int8: bool = False  # most layers of the U-Net multiplied 8-bit integers


def parameters(record: Record, sampler: str | None = None, spacing: str | None = None) -> str:
    r"""The text that AUTOMATIC1111's web interface would write, with its names for the sampler and the spacing.

    a dog with glasses
    Negative prompt: a hat
    Steps: 20, Sampler: Euler a, CFG scale: 4, Seed: 42, Size: 128x128, Model hash: 12d4c5a6f1, Model: tiny
    """
    unet = tuple(file for file in record.model_files if "unet" in file.path)
    settings = {
        "Steps": record.steps,
        "Sampler": sampler or record.sampler,
        "Schedule type": spacing or record.spacing,
        "CFG scale": str(record.guidance).removesuffix(".0"),
        "Seed": record.seed,
        "Size": f"{record.width}x{record.height}",
        "Model hash": _short_hash(unet)
        or _short_hash(record.model_files),  # the latter: a checkpoint in one file
        "Model": Path(record.model).name,
        "VAE hash": _short_hash(record.vae_files),
        "VAE": None if record.vae is None else Path(record.vae).name,
        "Denoising strength": record.strength if record.hires is None else record.hires_strength,
        "Hires upscale": record.hires and f"{record.hires:g}",
        "Hires upscaler": record.hires and {"latent": "Latent"}.get(record.hires_mode or "", "Lanczos"),
        "Clip skip": record.clip_skip if record.clip_skip != 1 else None,
        **{f"ControlNet {i}": _control(control) for i, control in enumerate(record.controls)},
        "Refiner": record.refiner and _refiner(record.refiner),
        "Refiner switch at": record.refiner and record.refiner.switch_at,
    }
    last = ", ".join(
        f"{name}: {_quoted(value)}" for name, value in settings.items() if value not in (None, "")
    )
    negative = [f"Negative prompt: {record.negative}"] if record.negative else []
    tags = "".join(f" <lora:{Path(lora.path).stem}:{lora.strength:g}>" for lora in record.loras)
    return "\n".join([record.prompt + tags, *negative, last])


def _control(used: UsedControl) -> str:
    module, name = used.prepare or "none", Path(used.path).stem
    steps = f"Guidance Start: {used.start:g}, Guidance End: {used.end:g}"
    return f"Module: {module}, Model: {name}, Weight: {used.strength:g}, {steps}"


def _refiner(used: UsedRefiner) -> str:
    return f"{Path(used.model).name} [{_short_hash(used.files)}]"


def _short_hash(files: tuple[File, ...]) -> str:
    """The first digits of the hash of the first file with weights; empty if there is none."""
    return next((file.sha256[:10] for file in files if not file.path.endswith((".json", ".txt"))), "")


def _quoted(value: object) -> str:
    # A value that contains a separator is written as JSON.
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(",:\n") else text


def png_texts(record: Record, sampler: str | None = None, spacing: str | None = None) -> PngInfo:
    """Both texts for Pillow's `save(..., pnginfo=)`; the names as in `parameters`. Equal records give equal bytes."""
    texts = PngInfo()
    # A PNG's text can hold neither half of a surrogate pair nor NUL; the JSON below escapes both.
    text = parameters(record, sampler, spacing).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    texts.add_text("parameters", text.replace("\0", "\N{REPLACEMENT CHARACTER}"))
    texts.add_text(KEY, json.dumps(asdict(record)))
    return texts


def read_record(path: Path) -> Record:
    """The record in a PNG file. Do not trust it: whoever made the file chose what it says.

    Raises `LdmError` for a file that cannot be read, is not a PNG, or has no record or a damaged one.
    """
    text = _read_text(path)
    try:
        record: Record = from_json_value(Record, json.loads(text), "record")
        index, count = record.group.index, record.group.count
        if not 0 <= index < count <= LARGEST_GROUP:
            raise LdmError(f"image {index} of {count}")
    except (ValueError, OverflowError, RecursionError, LdmError) as error:
        raise LdmError(
            f"{path}: its record is damaged, or of a newer ldm ({error}); use the file that `ldm generate` wrote, or "
            "that version"
        ) from error
    return record


def _read_text(path: Path) -> str:
    """The text under `KEY`. Pillow compares checksums, bounds what it unpacks, and stops before the pixels."""
    try:
        with open_regular(path, LARGEST_PNG) as file, Image.open(file, formats=("PNG",)) as image:
            text = image.info.get(KEY)
    except UnidentifiedImageError as error:
        raise LdmError(
            f"{path} is not a PNG, or a damaged one; expected one that `ldm generate` wrote"
        ) from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise LdmError(f"cannot read {path} ({error}); copy the original again") from error
    if not isinstance(text, str):
        raise LdmError(
            f"{path} has no record of how it was made; expected a PNG that `ldm generate` wrote, not edited since"
        )
    if len(text) > LONGEST_TEXT:
        raise LdmError(f"{path}: its record has {len(text):,} characters; expected at most {LONGEST_TEXT:,}")
    return text


def differences(then: Record, now: Record) -> list[str]:
    """What changed around the image: "torch: 2.12.0 then, 2.13.0 now". If nothing did, the bytes are the same.

    Paths of files do not count, only their hashes.
    """
    old, new = _surroundings(then), _surroundings(now)
    return [
        f"{name}: {old.get(name, 'none')} then, {new.get(name, 'none')} now"
        for name in old | new
        if old.get(name) != new.get(name)
    ]


def _surroundings(record: Record) -> dict[str, object]:
    files = {name: getattr(record, name) for name in ("init", "mask", "config")}
    files |= {f"the model's {file.path}": file for file in record.model_files}
    files |= {f"the VAE's {file.path}": file for file in record.vae_files}
    files |= {f"the U-Net's {file.path}": file for file in record.unet_files}
    files |= {f"the refiner's {file.path}": file for file in (record.refiner.files if record.refiner else ())}
    files |= {f"LoRA {i}": File(lora.path, lora.sha256) for i, lora in enumerate(record.loras, start=1)}
    for i, used in enumerate(record.controls, start=1):
        files |= {f"ControlNet {i}": File(used.path, used.sha256), f"the image of ControlNet {i}": used.image}
    files |= {f"embedding {i}": File(e.path, e.sha256) for i, e in enumerate(record.embeddings, start=1)}
    return {
        **asdict(record.versions),
        **{name: getattr(record, name) for name in ("dtype", "device", "threads", "traced", "compiled")},
        "images in the group": record.group.count,
        **{name: f"sha256 {file.sha256[:10]}" for name, file in files.items() if file is not None},
    }
