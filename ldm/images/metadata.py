r"""What a picture says about how it was made, inside its own PNG file.

A PNG may carry texts, each under a key. Ours carry two:

- `parameters`: the lines that AUTOMATIC1111's web interface writes and many programs show. For people; a number may
  be rounded there, and a prompt that spells "Steps: 5" on a line of its own can confuse its readers.
- `ldm`: JSON with all that is needed to paint the same bytes again, and the surroundings (versions, threads, hashes of
  files) that decide whether they will be the same.

Nothing here needs torch: `ldm info` answers at once. Source: PNG specification, third edition, section 11.3.3
(tEXt, iTXt).
"""

import hashlib
import json
import os
import struct
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from ldm.config import build
from ldm.errors import LdmError
from ldm.files.read_write import open_regular

KEY = "ldm"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 1000  # before the pixels; ours have four
LONGEST_TEXT = 2**22  # bytes of a record; a prompt of 100,000 characters takes at most a quarter
MOST_TOGETHER = 1000  # pictures in a group; a record that asks for more was not written here


@dataclass(frozen=True)
class File:
    """A file that a picture depends on: where it was (in the model's folder, for its own), and its bytes' sha256."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Group:
    """The pictures painted together: this one is number `index` (from 0) of `count`.

    A picture painted alone differs from the same seed in a group by up to 1 of 255: sums are split in another way
    and their last bits differ. So whoever wants the same bytes paints the same group.
    """

    index: int
    count: int


@dataclass(frozen=True)
class Versions:
    ldm: str
    torch: str
    python: str
    pillow: str  # it scales pictures to start from, and packs the PNG


@dataclass(frozen=True)
class Record:
    """Everything that made one picture."""

    prompt: str
    negative: str
    seed: int  # of this very picture; the group's first is seed - group.index
    sampler: str
    steps: int
    guidance: float
    width: int
    height: int
    group: Group
    init: File | None  # the picture that it started from
    strength: float | None
    mask: File | None
    keep_pixels: bool
    traced: bool  # attention was computed by hand, to be seen: the last bits differ
    model: str  # a name or a folder, as it was given
    model_files: tuple[File, ...]
    versions: Versions
    dtype: str
    device: str
    threads: int
    # Younger than the rest: pictures that say nothing of these were painted with the defaults.
    weighting: bool = True  # brackets in the prompt are weights
    long_prompt: str = "truncate"  # or "chunk"
    config: File | None = None  # that the model was read with, in place of its own
    weights: str | None = None  # "ema" or "live", if the caller chose
    prediction: str | None = None  # "eps" or "v", unless the model's own config.json says it
    vae: str | None = (
        None  # whose VAE took the place of the model's own: a name, file or folder, as it was given
    )
    vae_files: tuple[File, ...] = ()
    tile: bool = False  # the VAE worked in tiles
    compiled: bool = False  # the U-Net was, which rounds in other places


def sha256(path: Path) -> str:
    """The sha256 of a regular file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def parameters(record: Record, sampler: str | None = None) -> str:
    r"""The text that AUTOMATIC1111's web interface would write, where the sampler may have another name.

    `Model hash` is that of the U-Net's file.

    a dog with glasses
    Negative prompt: a hat
    Steps: 20, Sampler: Euler a, CFG scale: 4, Seed: 42, Size: 128x128, Model hash: 12d4c5a6f1, Model: tiny
    """
    settings = {
        "Steps": record.steps,
        "Sampler": sampler or record.sampler,
        "CFG scale": str(record.guidance).removesuffix(".0"),
        "Seed": record.seed,
        "Size": f"{record.width}x{record.height}",
        "Model hash": _model_hash(record.model_files),
        "Model": Path(record.model).name,
        "VAE hash": _hash(record.vae_files),
        "VAE": None if record.vae is None else Path(record.vae).name,
        "Denoising strength": record.strength,
    }
    last = ", ".join(
        f"{name}: {_quoted(value)}" for name, value in settings.items() if value not in (None, "")
    )
    negative = [f"Negative prompt: {record.negative}"] if record.negative else []
    return "\n".join([record.prompt, *negative, last])


def _model_hash(files: tuple[File, ...]) -> str:
    # Or that of a checkpoint, a single file for all.
    return _hash(tuple(file for file in files if "unet" in file.path)) or _hash(files)


def _hash(files: tuple[File, ...]) -> str:
    """As that interface writes it, of the first file that has weights in it; empty if there is none."""
    weights = [file for file in files if Path(file.path).suffix not in (".json", ".txt")]
    return weights[0].sha256[:10] if weights else ""


def _quoted(value: object) -> str:
    # A value with one of the signs that separate values is written as JSON.
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(",:\n") else text


def png_texts(record: Record, sampler: str | None = None) -> PngInfo:
    """Both texts (`sampler`: see `parameters`), for Pillow's `save(..., pnginfo=)`. The same record, the same bytes."""
    texts = PngInfo()
    # Half of a UTF-16 pair and NUL have no place in a PNG's text; the JSON below spells them in ASCII.
    text = parameters(record, sampler).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    texts.add_text("parameters", text.replace("\0", "\N{REPLACEMENT CHARACTER}"))
    texts.add_text(KEY, json.dumps(asdict(record)))
    return texts


def read_record(path: Path) -> Record:
    """What made the picture in a PNG file.

    Raises `LdmError` for a file that cannot be read, that is no PNG, or that has no record or a damaged one. Nothing in
    the record is to be trusted: whoever made the file chose it.
    """
    text = _read_text(path)
    try:
        record: Record = build(Record, json.loads(text), "record")
    except (ValueError, OverflowError, RecursionError, LdmError) as error:
        raise LdmError(
            f"{path}: the record in it is damaged ({error}); take the file `ldm generate` wrote"
        ) from error
    index, count = record.group.index, record.group.count
    if not 0 <= index < count <= MOST_TOGETHER:
        raise LdmError(
            f"{path}: the record in it is damaged (picture {index} of {count}); take the file `ldm generate` wrote"
        )
    return record


def _read_text(path: Path) -> str:
    """The text under `KEY`, read chunk by chunk: nothing is unpacked, and nothing large is read."""
    with open_regular(path) as file:
        try:
            if file.read(8) != SIGNATURE:
                raise LdmError(f"{path} is no PNG; expected a PNG that `ldm generate` wrote")
            for _ in range(MOST_CHUNKS):
                length, kind = struct.unpack(">I4s", file.read(8))
                if kind in (b"IDAT", b"IEND"):  # texts come before the pixels
                    break
                begin = file.read(min(length, len(KEY) + 1))
                if kind != b"tEXt" or begin != f"{KEY}\0".encode():
                    file.seek(length - len(begin) + 4, os.SEEK_CUR)
                    continue
                if length > LONGEST_TEXT:
                    raise LdmError(
                        f"{path}: the record in it has {length:,} bytes; expected at most {LONGEST_TEXT:,}"
                    )
                text, checksum = file.read(length - len(begin)), file.read(4)
                if checksum != struct.pack(">I", zlib.crc32(kind + begin + text)):
                    raise LdmError(f"{path} is damaged (checksum); copy it again from where it was whole")
                return text.decode("latin-1")
        except (OSError, struct.error) as error:
            reason = getattr(error, "strerror", None) or "it ends too early"
            raise LdmError(f"cannot read {path}: {reason}; copy it again from where it was whole") from error
    raise LdmError(
        f"{path} does not say what made it; expected a PNG that `ldm generate` wrote, untouched by other programs"
    )


def differences(then: Record, now: Record) -> list[str]:
    """What surrounds the painting now and did not then: "torch: 2.12.0 then, 2.13.0 now". Empty: the same bytes.

    Names and places of files do not count, only their bytes.
    """
    pairs: list[tuple[str, object, object]]
    pairs = [(name, value, getattr(now.versions, name)) for name, value in asdict(then.versions).items()]
    pairs += [(name, getattr(then, name), getattr(now, name)) for name in ("dtype", "device", "threads")]
    attention = {True: "by hand (--trace)", False: "the fast kernel"}
    pairs.append(("attention", attention[then.traced], attention[now.traced]))
    unet = {True: "compiled", False: "as it is written"}
    pairs.append(("the U-Net", unet[then.compiled], unet[now.compiled]))
    pairs.append(("painted together", then.group.count, now.group.count))
    old, new = _hashes(then), _hashes(now)
    pairs += [(name, old.get(name, "none"), new.get(name, "none")) for name in sorted(old | new)]
    return [f"{name}: {before} then, {after} now" for name, before, after in pairs if before != after]


def _given(record: Record) -> tuple[tuple[str, File | None], ...]:
    return ("init", record.init), ("mask", record.mask), ("config", record.config)


def _hashes(record: Record) -> dict[str, str]:
    files = {f"the model's {file.path}": file for file in record.model_files}
    files |= {f"the VAE's {file.path}": file for file in record.vae_files}
    files |= {name: file for name, file in _given(record) if file is not None}
    return {name: f"sha256 {file.sha256[:10]}" for name, file in files.items()}
