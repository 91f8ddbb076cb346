r"""Where a graph's weights are: at an offset of a .safetensors file, in 16 bits or in 8.

An ONNX graph may keep a tensor outside, given a file, an offset and a length. In a safetensors file each tensor is such
a slice (see `ldm/checkpoints/safetensors_file.py`), so a graph can point into it. What it finds there is stored in
fewer bits than it computes in, so a Cast to float32 follows; the runtime does that once, when it opens the graph.

For a page that is opened from a disk, every byte has to be loaded as text, so the weights are also written in 8 bits.
Each row $w$ of a weight (one per output channel) becomes whole numbers $q$ and one scale $s$:

    s = max |w| / 127        q = round(w / s)        w ~ q s

At most half a step is lost: |w - q s| <= s / 2. Biases and norms, which are few, stay in 16 bits.
"""

import struct
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from ldm.checkpoints.safetensors_file import LONGEST_HEADER, write_safetensors
from ldm.errors import LdmError
from ldm.files.read_write import open_regular, parse_json

SCALE = ".scale"  # what the name of a scale ends with


@dataclass(frozen=True)
class Slice:
    """A tensor's place in a file."""

    dtype: str  # as safetensors writes it: "F16"
    shape: tuple[int, ...]
    offset: int  # in bytes, from the start of the file
    length: int


def read_slices(path: Path) -> dict[str, Slice]:
    """Where each tensor of a safetensors file is. Raises `LdmError` if the file cannot be read."""
    with open_regular(path) as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > LONGEST_HEADER:
            raise LdmError(f"{path} announces a header of {length:,} bytes; is it a safetensors file?")
        header = parse_json(file.read(length), str(path))
    header.pop("__metadata__", None)
    return {name: _slice(entry, 8 + length) for name, entry in header.items()}


def _slice(entry: dict[str, Any], start: int) -> Slice:
    begin, end = entry["data_offsets"]
    return Slice(entry["dtype"], tuple(entry["shape"]), start + begin, end - begin)


def point_to(graph: Any, part: str, file: str, slices: dict[str, Slice]) -> Any:
    """A copy of a graph (`onnx.ModelProto`) whose weights ("unet.conv_in.weight" for the part "unet") are in `file`.

    Raises `LdmError` for a weight that the file does not have.
    """
    pointing = deepcopy(graph)
    inputs = list(pointing.graph.input)
    del pointing.graph.input[:]
    unpacking: list[Any] = []
    for value in inputs:
        if not value.name.startswith(f"{part}."):
            pointing.graph.input.append(value)
            continue
        name = value.name.removeprefix(f"{part}.")
        if name not in slices:
            raise LdmError(f"{file} has no {name!r}; the graph and the file belong to different models")
        stored = [name, name + SCALE] if name + SCALE in slices else [name]
        pointing.graph.initializer.extend(_outside(key, slices[key], file) for key in stored)
        unpacking += _unpack(value.name, stored)
    operations = list(pointing.graph.node)
    del pointing.graph.node[:]
    pointing.graph.node.extend([*unpacking, *operations])
    return slim(pointing)


def _outside(name: str, place: Slice, file: str) -> Any:
    from onnx import TensorProto

    kinds = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "I8": TensorProto.INT8}
    if place.dtype not in kinds:
        raise LdmError(f"{file}: {name!r} is stored as {place.dtype}; expected one of {', '.join(kinds)}")
    tensor = TensorProto(name=name, data_type=kinds[place.dtype], dims=place.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file), ("offset", place.offset), ("length", place.length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _unpack(target: str, stored: list[str]) -> list[Any]:
    """The operations from what is stored to a weight in float32."""
    from onnx import TensorProto, helper

    if len(stored) == 1:
        return [helper.make_node("Cast", stored, [target], to=TensorProto.FLOAT)]
    floats = [f"{name}.float" for name in stored]
    casts = [
        helper.make_node("Cast", [a], [b], to=TensorProto.FLOAT) for a, b in zip(stored, floats, strict=True)
    ]
    return [*casts, helper.make_node("Mul", floats, [target])]


def slim(graph: Any) -> Any:
    """The same graph without what only a debugger reads: where in Python each operation came from."""
    everything = [graph, graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.output]
    for item in [*everything, *graph.graph.initializer]:
        del item.metadata_props[:]
        item.doc_string = ""
    for node in graph.graph.node:
        node.name = ""
    del graph.graph.value_info[:]
    del graph.functions[:]
    return graph


# --- 8 bits ----------------------------------------------------------------------------------------------------


def to_eight_bits(
    weight: Float[Tensor, "d *rest"],
) -> tuple[Int8[Tensor, "d *rest"], Float[Tensor, "d *ones"]]:
    """Whole numbers in [-127, 127], and one scale (float16) per row of the first axis."""
    largest = weight.float().abs().flatten(1).amax(dim=1)
    scale = (largest / 127).to(torch.float16)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale)).reshape(-1, *[1] * (weight.ndim - 1))
    return (weight.float() / scale.float()).round().clamp(-127, 127).to(torch.int8), scale


def write_eight_bits(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write the weights in 8 bits, with their scales beside them, and everything with fewer than two axes in 16."""
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            stored[name] = tensor.to(torch.float16)
        else:
            stored[name], stored[name + SCALE] = to_eight_bits(tensor)
    write_safetensors(path, stored)


def from_eight_bits(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in float32 again, from what `write_eight_bits` wrote: what the browser computes with."""
    weights = {name: tensor for name, tensor in tensors.items() if not name.endswith(SCALE)}
    return {
        name: tensor.float() * tensors[name + SCALE].float() if name + SCALE in tensors else tensor.float()
        for name, tensor in weights.items()
    }
