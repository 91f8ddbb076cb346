r"""A diffusers folder: a subfolder for each network, with its weights and a JSON of its sizes.

    model_index.json
    unet/           config.json, diffusion_pytorch_model.safetensors  (or .bin)
    vae/            the same
    text_encoder/   config.json, model.safetensors                    (or pytorch_model.bin)
    scheduler/      scheduler_config.json
    tokenizer/      vocab.json, merges.txt, ...

Stable Diffusion XL also has text_encoder_2/ and tokenizer_2/, and its refiner has these alone.

A file may have *variants* beside it or instead of it: `diffusion_pytorch_model.fp16.safetensors`, in half precision, or
`.non_ema`, the live weights. A large file may be cut into shards, `model-00001-of-00002.safetensors`, with an index
that says which tensor is in which.
"""

import re
from pathlib import Path

from torch import Tensor

from ldm.checkpoints.checkpoint import Checkpoint, Part, layout_of
from ldm.checkpoints.detect import foreign_class
from ldm.checkpoints.formats import read_file
from ldm.errors import LdmError
from ldm.files.read_write import read_table

FOLDERS = {"unet": "unet", "vae": "vae", "text": "text_encoder", "text_2": "text_encoder_2"}
# Names of weights, best first, without the variant: safetensors run no code, so they go before .bin.
_OF_DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_OF_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")
STEMS = {
    "unet": _OF_DIFFUSERS, "vae": _OF_DIFFUSERS, "text": _OF_TRANSFORMERS, "text_2": _OF_TRANSFORMERS,
}  # fmt: skip


def is_diffusers_folder(folder: Path) -> bool:
    return (folder / "model_index.json").is_file() or any(
        (folder / f).is_dir() for f in ("unet", "text_encoder")
    )


def read_folder(folder: Path, weights: str | None = None) -> Checkpoint:
    """All networks of a diffusers folder. `weights`: "live" asks for the `.non_ema` variant.

    Raises `LdmError` that names what is missing or damaged.
    """
    parts, settings = {}, {}
    if (folder / "model_index.json").is_file():
        settings[""] = read_table(folder / "model_index.json")
    try:
        for name, subfolder in FOLDERS.items():
            place = folder / subfolder
            if place.is_dir():
                parts[name] = read_part(place, name, weights if name == "unet" else None)
                settings[subfolder] = read_table(place / "config.json")
        if (folder / "scheduler").is_dir():
            settings["scheduler"] = read_table(folder / "scheduler" / "scheduler_config.json")
        if not parts:
            raise LdmError(f"{folder} has none of {', '.join(FOLDERS.values())}: the folder is incomplete")
    except LdmError as error:  # what it lacks does not matter if it is another kind of model
        if what := foreign_class(settings):
            raise LdmError(f"{folder} is {what}; expected a checkpoint of Stable Diffusion") from error
        raise
    if "text_2" in parts and "text" not in parts:  # the refiner's only one
        parts["text"], settings[FOLDERS["text"]] = parts.pop("text_2"), settings.pop(FOLDERS["text_2"])
    unet = folder / FOLDERS["unet"]  # live weights beside others: those are then their average
    both = unet.is_dir() and any(".non_ema." in file.name for file in unet.iterdir())
    if weights == "ema" and not both:
        raise LdmError(
            f"{folder} has one set of weights, and nothing in it says that they are averaged (EMA); to take them as "
            "they are, leave out weights='ema'"
        )
    return Checkpoint(folder, "diffusers folder", parts, settings=settings, ema=both)


def read_single(folder: Path) -> Checkpoint | None:
    """A folder that holds one network, such as a VAE published alone; None if it holds none."""
    settings = read_table(folder / "config.json") if (folder / "config.json").is_file() else {}
    kind = settings.get("_class_name")
    classes = {"AutoencoderKL": "vae", "AutoencoderTiny": "vae"}
    classes |= {"UNet2DConditionModel": "unet", "ControlNetModel": "unet"}
    name = classes.get(str(kind), "text")
    if name == "text" and "architectures" not in settings:
        if kind is not None:
            raise LdmError(f"{folder} is another kind of network ({str(kind)[:80]}), not Stable Diffusion's")
        return None
    part = read_part(folder, name, None)
    return Checkpoint(folder, "diffusers folder", {name: part}, settings={FOLDERS[name]: settings})


def read_part(folder: Path, name: str, weights: str | None) -> Part:
    """The tensors of one network, from the best of its files."""
    files = {file.name for file in folder.iterdir()}
    pattern = r"(?:diffusion_pytorch_model|model|pytorch_model)\.(\w+)\.(?:safetensors|bin)"
    others = {match[1] for file in files if (match := re.fullmatch(pattern, file))}
    variants = ["non_ema"] if weights == "live" else ["", "fp16", *sorted(others - {"non_ema"})]
    for variant in variants:
        for stem in STEMS[name]:
            plain = stem.replace(".", f".{variant}.") if variant else stem
            # Two spellings are in use: the variant before the suffix, or after "index".
            indices = {f"{plain}.index.json", f"{stem}.index.{variant}.json" if variant else ""} & files
            if plain in files:
                tensors = read_file(folder / plain)
                return Part(tensors, layout_of(tensors), folder / plain)
            if indices:
                tensors = _read_shards(folder / min(indices))
                return Part(tensors, layout_of(tensors), folder / min(indices))
    shards = [file for file in files if re.search(r"-\d{5}-of-\d{5}", file)]
    if shards:
        raise LdmError(f"{folder} has {len(shards)} shards but no index (*.index.json): fetch that, too")
    if weights == "live":
        raise LdmError(f"{folder} has no live weights (a .non_ema file); load it without weights='live'")
    others = {file for file in files if file.endswith((".msgpack", ".onnx", ".h5", ".xml", ".mlmodel"))}
    there = f" in a format that can be read, only {', '.join(sorted(others))}" if others else ""
    raise LdmError(f"{folder} has no weights{there}; expected one of {', '.join(STEMS[name])}, or a variant")


def _read_shards(index: Path) -> dict[str, Tensor]:
    """All tensors that an index lists, each from its shard. Raises `LdmError` for a missing or wrong shard."""
    where = read_table(index).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(file, str) for file in where.values()):
        raise LdmError(f"{index} has no weight_map, from tensors to shards; fetch it again")
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(where.values())):
        path = index.parent / file
        if Path(file).name != file:
            raise LdmError(f"{index} names the shard {file!r}; expected a file beside it")
        if not path.is_file():
            raise LdmError(f"{path} is missing: {index.name} says it is a shard; fetch it")
        shard = read_file(path)
        lacking = [name for name, place in where.items() if place == file and name not in shard]
        if lacking:
            raise LdmError(f"{path} lacks {lacking[0]}, which the index says it has; fetch both again")
        tensors |= shard
    return tensors
