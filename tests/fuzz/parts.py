r"""Files that go with a model: learned words, ControlNets, tiny VAEs. Their numbers must be those of the file."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ldm.adapters.controlnet import ControlNet
from ldm.adapters.textual_inversion import Embedding
from ldm.checkpoints.control_file import (
    DIFFERENCE,
    PREFIX,
    FoundControl,
    about_control,
    control_rows,
    read_control,
)
from ldm.checkpoints.embedding_file import PAIRS, about_embedding, read_embedding
from ldm.checkpoints.names import Row, rename
from ldm.checkpoints.safetensors_file import write_safetensors
from ldm.checkpoints.tiny_file import TinyFile, about_tiny, open_tiny, tiny_rows
from ldm.pipeline import LatentDiffusion
from ldm.vae.tiny import TinyVAE
from tests.fuzz.mutate import change_archive, change_json, change_program, flip, unpacked
from tests.fuzz.weights import Files, raw, read_plainly, zip_archive
from tests.small import CONFIG as SMALL
from tests.small import TOKENIZER

WIDTHS, ROOM = (8, 12), 20  # of a text encoder, of two; vectors that a prompt has room for


# --- learned words -------------------------------------------------------------------------------------------


def make_words(folder: Path) -> list[bytes]:
    generator = torch.Generator().manual_seed(7)
    first, second = (torch.randn(3, width, generator=generator) for width in WIDTHS)
    found = []
    forms = [{"<toy>": first}, {"emb_params": first}, {"<toy>": first[0].half()}]
    forms += [dict(zip(pair, (first, second), strict=True)) for pair in PAIRS]
    for tensors in forms:
        write_safetensors(folder / "x.safetensors", tensors)
        found.append((folder / "x.safetensors").read_bytes())
    for state in ({"<toy>": first}, {"string_to_param": {"*": first}, "name": "toy", "step": 9}):
        buffer = io.BytesIO()
        torch.save(state, buffer)
        found.append(buffer.getvalue())
    return found


def mutate_words(rng: Random, originals: list[bytes]) -> Files:
    data = rng.choice(originals)
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return {"x.safetensors": changed_names(rng, data)}
    if rng.random() < 0.3:
        return {"x.pt": flip(rng, data)}
    entries = unpacked(data)
    if rng.random() < 0.3:
        return {"x.pt": change_archive(rng, entries)}
    program = next(entry for entry in entries if entry.name.endswith("data.pkl"))
    program.data = change_program(rng, program.data)
    return {"x.pt": zip_archive(entries)}


def read_words(folder: Path, _: Any) -> tuple[Path, Embedding]:
    path = next(path for path in (folder / "x.safetensors", folder / "x.pt") if path.exists())
    said = dict(about_embedding(path))
    widths = WIDTHS if " and " in said.get("vectors", "") else WIDTHS[:1]
    return path, read_embedding(path, widths, ROOM)


def wrong_words(folder: Path, read: tuple[Path, Embedding], _: Any) -> str | None:
    path, embedding = read
    data = path.read_bytes()
    if path.suffix == ".pt":
        kinds = {np.dtype(f"u{rows.element_size()}") for rows in embedding.rows}
        known = {number for kind in kinds for number in stored(data, kind)}
        drawn = (np.frombuffer(raw(rows), f"u{rows.element_size()}") for rows in embedding.rows)
        return None if all(set(numbers.tolist()) <= known for numbers in drawn) else "numbers of its own"
    _, theirs = read_plainly(data)
    pair = next((pair for pair in PAIRS if theirs.keys() == set(pair)), tuple(theirs))
    return None if [theirs[name] for name in pair] == [*map(raw, embedding.rows)] else "other numbers"


def stored(data: bytes, kind: np.dtype) -> set[int]:
    r"""All numbers of a width that stand in the storages of a checkpoint."""
    found: set[int] = set()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if "/data/" in name:
                record = archive.read(name)
                found |= set(
                    np.frombuffer(record[: len(record) // kind.itemsize * kind.itemsize], kind).tolist()
                )
    return found


# --- networks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Networks:
    r"""Files of one network under several names, and for each the file's name of each of our tensors."""

    files: list[bytes]
    names: list[dict[str, str]]
    model: LatentDiffusion | None = None


def made(folder: Path, network: nn.Module, rows: list[Row], prefixes: Mapping[str, str]) -> Networks:
    r"""The network with random weights in half precision, in each layout, with a prefix before its names."""
    state: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(9)
    for name, parameter in network.named_parameters():
        state[name] = torch.randn(parameter.shape, generator=generator).half()
    found = Networks([], [])
    for layout, prefix in prefixes.items():
        tensors = {prefix + n: t.contiguous() for n, t in rename(state, rows, layout).items()}  # type: ignore[arg-type]
        if prefix == PREFIX:
            tensors[DIFFERENCE] = torch.zeros(0)
        write_safetensors(folder / "x.safetensors", tensors)
        found.files.append((folder / "x.safetensors").read_bytes())
        found.names.append({row.ours: prefix + row.name(layout) for row in rows})  # type: ignore[arg-type]
    return found


def make_controls(folder: Path) -> Networks:
    hints = (4, 6)
    files = made(
        folder,
        ControlNet(SMALL.unet, hints),
        control_rows(SMALL.unet, len(hints)),
        {"compvis": PREFIX, "diffusers": ""},
    )
    return Networks(files.files, files.names, LatentDiffusion(SMALL, TOKENIZER))


def make_tiny(folder: Path) -> Networks:
    rows = [row for row in tiny_rows() if row.ours.startswith("decoder.")]
    return made(folder, TinyVAE(encodes=False), rows, {"compvis": "taesd_", "diffusers": ""})


def mutate_network(rng: Random, base: Networks) -> Files:
    return {"x.safetensors": changed_names(rng, rng.choice(base.files))}


def changed_names(rng: Random, data: bytes) -> bytes:
    r"""Bytes and JSON as of any file; or tensors exchanged, left out, doubled, renamed, or given another shape."""
    (length,) = struct.unpack_from("<Q", data)
    header, numbers = json.loads(data[8 : 8 + length]), data[8 + length :]
    pick = rng.random()
    if pick < 0.15:
        return flip(rng, data[: 8 + length]) + numbers
    if pick < 0.4:
        text = change_json(rng, json.dumps(header))
        return struct.pack("<Q", len(text)) + text + numbers
    tensors = {
        name: (entry["dtype"], entry["shape"], numbers[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }
    for _ in range(rng.randint(1, 3)):
        name = rng.choice(list(tensors))
        like = [other for other, tensor in tensors.items() if tensor[1] == tensors[name][1]]
        match rng.randrange(6):
            case 0 | 1:
                other = rng.choice(like if rng.random() < 0.8 else list(tensors))
                tensors[name], tensors[other] = tensors[other], tensors[name]
            case 2 if len(tensors) > 1:
                del tensors[name]
            case 3:
                tensors[rng.choice((f"{name}x", name.partition(".")[2], DIFFERENCE))] = tensors.pop(name)
            case 4:
                rng.shuffle(tensors[name][1])
            case _:
                tensors[f"{rng.choice(('model.', PREFIX, 'text_model.'))}{name}"] = tensors[name]
    return written(tensors)


def written(tensors: Mapping[str, tuple[str, list[int], bytes]]) -> bytes:
    r"""A file of these tensors: dtype, shape and bytes of each."""
    header, end = {}, 0
    for name, (dtype, shape, numbers) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end := end + len(numbers)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(numbers for _, _, numbers in tensors.values())


def read_controls(folder: Path, base: Networks) -> FoundControl:
    assert base.model is not None
    list(about_control(folder / "x.safetensors"))
    return read_control(folder / "x.safetensors", base.model)


def read_tiny(folder: Path, _: Any) -> TinyFile:
    list(about_tiny(folder / "x.safetensors"))
    return open_tiny(folder / "x.safetensors")


def wrong_network(folder: Path, read: FoundControl | TinyFile, base: Networks) -> str | None:
    _, found = read_plainly((folder / "x.safetensors").read_bytes())
    # A tiny VAE's name may do without the half that it belongs to, if that is the decoder.
    theirs = {
        f"taesd_decoder.{name}": numbers for name, numbers in found.items() if name[:1].isdigit()
    } | found
    shapes = {name: parameter.shape for name, parameter in read.network.named_parameters()}
    if {name: tensor.shape for name, tensor in read.tensors.items()} != shapes:
        return "tensors that are not those of the network"
    for names in base.names:
        if all(theirs.get(names[ours]) == raw(tensor) for ours, tensor in read.tensors.items()):
            return None
    return "other numbers"
