r"""One tensor, three names: a row of the table in `ldm.checkpoints.key_map`, and files read and written by it.

The numbers are the same everywhere, so converting a checkpoint computes nothing. Besides giving a tensor another name,
only four things may have to be done to it:

- a 1x1 convolution is a linear map, and some files store it as a convolution, [out, in, 1, 1];
- OpenCLIP stacks the projections to query, key and value into one tensor of three times the height;
- OpenCLIP multiplies by its text projection from the other side, so it is stored transposed;
- some writers leave off a prefix, or use names that older versions of their library had.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ldm.errors import LdmError

Layout = Literal["ours", "diffusers", "compvis"]


@dataclass(frozen=True)
class Row:
    """One tensor under its names."""

    ours: str
    diffusers: str  # and transformers
    compvis: str = ""  # in the original code of Stable Diffusion, and in OpenCLIP
    conv: tuple[Layout, ...] = ()  # the layouts that have this linear map as a 1x1 convolution
    third: int | None = None  # of the tensor that OpenCLIP calls `compvis`: query 0, key 1, value 2
    transposed: tuple[Layout, ...] = ()  # the layouts that have this matrix transposed

    def name(self, layout: Layout) -> str:
        return {"ours": self.ours, "diffusers": self.diffusers, "compvis": self.compvis}[layout]


@dataclass(frozen=True)
class Match:
    """The result of looking for a model's tensors in a file."""

    tensors: dict[str, Tensor]  # under our names; they share memory with the file's
    missing: list[str]  # as the file would call them
    left_over: list[str]  # as the file calls them
    dropped: list[str]  # likewise; known, and not needed


# What some writers leave off the names of CLIP's tensors (transformers from version 5 on, for one).
OPTIONAL_PREFIXES = ("text_model.", "vision_model.")
# What diffusers at first called the projections of the VAE's attention.
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def match(
    state: Mapping[str, Tensor], rows: Iterable[Row], layout: Layout, extras: Iterable[str] = ()
) -> Match:
    """Look for every row's tensor in a file of this layout. `extras`: what it may have and we do not need.

    Each tensor of the file is used once, dropped as a known extra, or left over. Raises `LdmError` for a tensor that
    is there twice, under two spellings of its name.
    """
    rows = list(rows)
    wanted = dict.fromkeys(row.name(layout) for row in rows)  # a set that keeps the order
    known = {*wanted, *extras}
    found: dict[str, Tensor] = {}
    left_over, dropped = [], []
    for name, tensor in state.items():
        full = next((spelling for spelling in _spellings(name) if spelling in known), None)
        if full is None:
            left_over.append(name)
        elif full not in found:
            found[full] = tensor
            if full not in wanted:
                dropped.append(name)
        elif _is_copy(tensor, found[full]):
            dropped.append(name)  # left by merging two files that spell one name in two ways
        else:
            raise LdmError(
                f"the tensor {full} is in the file twice, with other numbers as {name}; remove one"
            )
    own = {row.ours: _read(found[row.name(layout)], row, layout) for row in rows if row.name(layout) in found}
    return Match(own, [name for name in wanted if name not in found], left_over, dropped)


def _is_copy(tensor: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same numbers, which are read for it."""
    same_kind = tensor.dtype == other.dtype and tensor.shape == other.shape
    return same_kind and not tensor.is_meta and torch.equal(tensor.double(), other.double())


def _spellings(name: str) -> list[str]:
    """The names that a tensor of this name may have in the table."""
    words = name.split(".")
    if len(words) > 1 and words[-2] in OLD_NAMES:
        return [name, ".".join([*words[:-2], OLD_NAMES[words[-2]], words[-1]])]
    return [name, *(prefix + name for prefix in OPTIONAL_PREFIXES)]


def _read(tensor: Tensor, row: Row, layout: Layout) -> Tensor:
    """A file's tensor in our form. Where a 1x1 convolution is expected, a linear map is accepted as well."""
    if row.conv and tensor.ndim == 4:
        if tensor.shape[2:] != (1, 1):
            raise LdmError(f"{row.diffusers} has the shape {list(tensor.shape)}; expected [out, in, 1, 1]")
        return tensor[:, :, 0, 0]
    if layout == "compvis" and row.third is not None and tensor.ndim and tensor.shape[0] % 3 == 0:
        return tensor.tensor_split(3)[row.third]
    return tensor.T if layout in row.transposed and tensor.ndim == 2 else tensor


def rename(state: Mapping[str, Tensor], rows: Sequence[Row], layout: Layout) -> dict[str, Tensor]:
    """Our tensors under the names of a layout, in its form: one for each row."""
    stacks: dict[str, list[Tensor]] = {}
    for row in rows:
        own = state[row.ours]
        own = own[:, :, None, None] if layout in row.conv else own.T if layout in row.transposed else own
        stacks.setdefault(row.name(layout), []).append(own)
    return {name: torch.cat(stack) if len(stack) > 1 else stack[0] for name, stack in stacks.items()}
