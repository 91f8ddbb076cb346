r"""Configs, and whole models in folders and single files, of which a text was changed."""

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from torch import Tensor

from ldm.checkpoints.collect import Collected, collect
from ldm.checkpoints.opening import CONFIG, TOKENIZER
from ldm.checkpoints.safetensors_file import write_safetensors
from ldm.checkpoints.tokenizer_io import tokenizer_text
from ldm.checkpoints.validate import configs_of, meta_model
from ldm.checkpoints.write import export
from ldm.config import Config
from ldm.loading import read_config
from tests.checkpoints.made import FAMILIES, random_tensors, single_file, tokenizer
from tests.fuzz.mutate import change_json, change_text
from tests.fuzz.weights import Files, same
from tests.small import CONFIG as SMALL
from tests.small import write_small_model


def said(parsed: Any, found: Any) -> bool:
    r"""Whether all that a JSON says stands in what was made of it."""
    if isinstance(parsed, dict):
        return isinstance(found, dict) and all(
            key in found and said(value, found[key]) for key, value in parsed.items()
        )
    if isinstance(parsed, list):
        return len(parsed) == len(found) and all(map(said, parsed, found))
    return parsed == found or (isinstance(found, float) and float(parsed) == found)


def make_config(folder: Path) -> str:
    return SMALL.to_json()


def read_own_config(folder: Path, _: Any) -> Config:
    config = read_config(folder / "config.json")
    assert config is not None
    for part, sizes in configs_of(config).items():
        meta_model(part, sizes)
    return config


def wrong_config(folder: Path, read: Config, _: Any) -> str | None:
    parsed = json.loads((folder / "config.json").read_bytes())
    return None if said(parsed, asdict(read)) else "another config than its JSON says"


@dataclass(frozen=True)
class Original:
    r"""A model in a folder: its files of text, its config and its tensors."""

    path: str
    files: dict[str, str]
    config: Config
    tensors: dict[str, Tensor]


def flat(found: Collected) -> dict[str, Tensor]:
    return {f"{part}.{name}": t for part, tensors in found.tensors.items() for name, t in tensors.items()}


def original(folder: Path, path: str, files: list[Path]) -> Original:
    found = collect(folder / path)
    texts = {file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8") for file in files}
    return Original(path, texts, found.model.config, {name: t.clone() for name, t in flat(found).items()})


def make_own(folder: Path) -> Original:
    write_small_model(folder / "own")
    return original(
        folder, "own", [folder / "own/config.json", *sorted((folder / "own/tokenizer").iterdir())]
    )


def make_diffusers(folder: Path) -> Original:
    export_diffusers(folder)
    files = sorted((folder / "theirs").rglob("*.json")) + sorted((folder / "theirs").rglob("*.txt"))
    return original(folder, "theirs", files)


def export_diffusers(folder: Path) -> None:
    config = FAMILIES["sd2-v"]
    path = folder / "theirs.safetensors"
    write_safetensors(
        path, single_file(config, random_tensors(config)), {TOKENIZER: tokenizer_text(tokenizer(config))}
    )
    export(path, folder / "theirs", "diffusers", prediction="v")


def mutate_texts(rng: Random, base: Original) -> Files:
    name = rng.choice(sorted(base.files))
    change = change_json if name.endswith(".json") else change_text
    return {name: change(rng, base.files[name])}


def read_model(folder: Path, base: Original) -> Collected:
    return collect(folder / base.path)


def wrong_tensors(read: Collected, base: Original) -> str | None:
    found = flat(read)
    if found.keys() != base.tensors.keys() or not all(
        same(t, base.tensors[name]) for name, t in found.items()
    ):
        return "other tensors"
    return None


def wrong_own(folder: Path, read: Collected, base: Original) -> str | None:
    parsed = json.loads((folder / "own/config.json").read_bytes())
    return wrong_tensors(read, base) or (
        None if said(parsed, asdict(read.model.config)) else "another config"
    )


# Where the files of a diffusers folder say what we read in them.
THEIRS: dict[tuple[str, str], Callable[[Config], Any]] = {
    ("unet/config.json", "norm_num_groups"): lambda c: c.unet.groups,
    ("vae/config.json", "norm_num_groups"): lambda c: c.vae.groups,
    ("vae/config.json", "scaling_factor"): lambda c: c.vae.scale,
    ("text_encoder/config.json", "num_attention_heads"): lambda c: c.text.heads,
    ("text_encoder/config.json", "hidden_act"): lambda c: c.text.activation,
    ("scheduler/scheduler_config.json", "num_train_timesteps"): lambda c: c.noise.steps,
    ("scheduler/scheduler_config.json", "beta_start"): lambda c: c.noise.beta_start,
    ("scheduler/scheduler_config.json", "beta_end"): lambda c: c.noise.beta_end,
}


def wrong_diffusers(folder: Path, read: Collected, base: Original) -> str | None:
    scheduler = json.loads((folder / "theirs/scheduler/scheduler_config.json").read_bytes())
    for (name, key), value in THEIRS.items():
        parsed = json.loads((folder / "theirs" / name).read_bytes())
        if scheduler.get("trained_betas") is not None and name.startswith("scheduler"):
            continue
        if parsed.get(key) is not None and parsed[key] != value(read.model.config):
            return f"{key} is {value(read.model.config)} instead of {parsed[key]}"
    return wrong_tensors(read, base)


def make_single(folder: Path) -> Original:
    config = FAMILIES["sd1"]
    metadata = {
        TOKENIZER: tokenizer_text(tokenizer(config)),
        CONFIG: config.to_json(),
        "modelspec.prediction_type": "epsilon",
    }
    write_safetensors(folder / "one.safetensors", single_file(config, random_tensors(config)), metadata)
    base = original(folder, "one.safetensors", [])
    return Original(base.path, {**metadata, "": str(folder / "one.safetensors")}, base.config, base.tensors)


def mutate_single(rng: Random, base: Original) -> Files:
    whole = Path(base.files[""])
    backup = whole.with_suffix(".original")
    if not backup.exists():
        shutil.copy(whole, backup)
    data = backup.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header["__metadata__"]
    key = rng.choice(sorted(metadata))
    if key in (CONFIG, TOKENIZER):
        metadata[key] = change_json(rng, metadata[key]).decode(errors="replace")
    else:
        metadata[key] = rng.choice(("v", "v_prediction", "", "x" * 1000, "epsilon", "\0"))
    if rng.random() < 0.2:
        del metadata[key]
    text = json.dumps(header).encode()
    return {base.path: struct.pack("<Q", len(text)) + text + data[8 + length :]}


def wrong_single(folder: Path, read: Collected, base: Original) -> str | None:
    data = (folder / base.path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    if CONFIG in metadata:
        parsed = json.loads(metadata[CONFIG])
        parsed.get("text", {}).pop("pad", None)  # the tokenizer says it, too, and is followed
        if not said(parsed, asdict(read.model.config)):
            return "another config than its metadata say"
    if TOKENIZER in metadata:
        merges = [tuple(pair) for pair in json.loads(metadata[TOKENIZER])["merges"]]
        if merges != list(read.model.tokenizer.merges):
            return "other merges than its metadata say"
    return wrong_tensors(read, base)


YAML = """model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.00085
    linear_end: 0.0120
    timesteps: 1000
    scale_factor: 0.18215
    parameterization: "eps"
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        in_channels: 4
        out_channels: 4
        attention_resolutions: [ 4, 2, 1 ]
        num_heads: 8
        transformer_depth:
        - 1
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenCLIPEmbedder
"""


def make_yaml(folder: Path) -> Original:
    config = FAMILIES["sd1"]
    write_safetensors(
        folder / "two.safetensors",
        single_file(config, random_tensors(config)),
        {TOKENIZER: tokenizer_text(tokenizer(config))},
    )
    (folder / "two.yaml").write_text(YAML)
    return original(folder, "two.safetensors", [folder / "two.yaml"])


def wrong_yaml(folder: Path, read: Collected, base: Original) -> str | None:
    return wrong_tensors(read, base)


def mutate_config(rng: Random, base: str) -> Files:
    return {"config.json": change_json(rng, base)}
