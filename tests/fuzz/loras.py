r"""LoRAs: files of every kind of factors; what was read must be in the file, and survive being written again."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from ldm.adapters.merge import Change
from ldm.checkpoints.lora_about import about
from ldm.checkpoints.lora_file import open_lora
from ldm.checkpoints.lora_fit import BASES, names_in
from ldm.checkpoints.lora_keys import FACTORS
from ldm.checkpoints.lora_write import all_changes, base_of, export_lora
from ldm.checkpoints.safetensors_file import write_safetensors
from tests.fuzz.weights import Files, mutate_header, raw, read_plainly

MODULES = ("lora_unet_mid_block_attentions_0_proj_in", "lora_te_text_model_encoder_layers_3_mlp_fc1",
           "lora_unet_mid_block_resnets_0_conv1", "lora_unet_mid_block_resnets_0_conv2")  # fmt: skip
PEFT = ("unet.mid_block.attentions.0.proj_in", "text_encoder.text_model.encoder.layers.3.mlp.fc1")
Read = tuple[dict[str, Change], dict[str, Change]]


def make_loras(folder: Path) -> list[bytes]:
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    pair = {"lora_up.weight": draw(4, 2), "lora_down.weight": draw(2, 3), "alpha": torch.tensor(1.0)}
    core = {
        "lora_up.weight": draw(4, 2, 1, 1),
        "lora_down.weight": draw(2, 3, 1, 1),
        "lora_mid.weight": draw(2, 2, 3, 3),
    }
    hadamard = {
        f"hada_w{k}_{half}": draw(*size) for k in (1, 2) for half, size in (("a", (4, 2)), ("b", (2, 3)))
    }
    kronecker = {"lokr_w1": draw(2, 3).half(), "lokr_w2_a": draw(2, 2).half(), "lokr_w2_b": draw(2, 1).half()}
    whole = {"diff": draw(4, 3), "diff_b": draw(4)}
    kinds = [
        pair | {"dora_scale": draw(4, 1)},
        core,
        hadamard,
        kronecker,
        whole,
        pair | {"dora_scale": draw(1, 3)},
    ]
    files: list[tuple[dict[str, Tensor], dict[str, str]]] = []
    for i in range(len(kinds)):
        modules = zip(MODULES, kinds[i:] + kinds[:i])
        file = {f"{module}.{name}": tensor for module, kind in modules for name, tensor in kind.items()}
        files.append((file, {"ss_base_model_version": "sd_v1"} if i % 2 else {}))
    peft = {
        f"{module}.lora_{half}.weight": draw(*size)
        for module in PEFT
        for half, size in (("A", (2, 3)), ("B", (4, 2)))
    }
    peft[f"{PEFT[0]}.lora_magnitude_vector"] = draw(4)
    settings = json.dumps({"unet.lora_alpha": 3, "unet.use_rslora": True, "text_encoder.lora_alpha": 1})
    files.append((peft, {"lora_adapter_metadata": settings}))
    for base in BASES:
        names_in(base)  # kept from now on, so that no case is charged with them
    found = []
    for file, metadata in files:
        write_safetensors(folder / "x.safetensors", file, metadata)
        found.append((folder / "x.safetensors").read_bytes())
    return found


def mutate_lora(rng: Random, originals: list[bytes]) -> Files:
    r"""Bytes and JSON as of any safetensors file; or names of factors and modules, and shapes, exchanged."""
    if rng.random() < 0.4:
        return mutate_header(rng, originals)
    data = rng.choice(originals)
    (length,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    for _ in range(rng.randint(1, 3)):
        name, other = rng.choice(names), rng.choice(names)
        change = rng.random()
        if change < 0.3:
            header[name], header[other] = header[other], header[name]
        elif change < 0.7 and name in header:
            module = next(m for m in (*PEFT, *MODULES, name) if name.startswith(m))
            header[f"{module}.{rng.choice(list(FACTORS))}"] = header.pop(name)
            names = [known for known in header if known != "__metadata__"]
        else:
            shape = header[rng.choice(names)]["shape"]
            rng.shuffle(shape)
    text = json.dumps(header).encode()
    return {"x.safetensors": struct.pack("<Q", len(text)) + text + data[8 + length :]}


def read_loras(folder: Path, _: Any) -> Read:
    r"""What a file changes, and what the file changes that it is written to."""
    path, again = folder / "x.safetensors", folder / "y.safetensors"
    file = open_lora(path)
    list(about(file))
    table = names_in(base_of(file))
    export_lora(path, again, force=True)
    return all_changes(file, table)[0], all_changes(open_lora(again), table)[0]


def wrong_lora(folder: Path, read: Read, _: Any) -> str | None:
    before, after = read
    _, theirs = read_plainly((folder / "x.safetensors").read_bytes())
    known = set(theirs.values())
    if any(numbers not in known for change in before.values() for numbers in numbers_of(change).values()):
        return "numbers that are not in the file"
    if before.keys() != after.keys():
        return f"written again, it changes {sorted(after)} instead of {sorted(before)}"
    for name, change in before.items():
        other = after[name]
        same = (change.kind, change.alpha, change.per_output) == (other.kind, other.alpha, other.per_output)
        if not same or change.shapes != other.shapes or numbers_of(change) != numbers_of(other):
            return f"written again, it changes {name} otherwise"
    return None


def numbers_of(change: Change) -> Mapping[str, bytes]:
    found = {name: raw(factor) for name, factor in change.factors.items()}
    return found if change.magnitude is None else {**found, "magnitude": raw(change.magnitude)}
