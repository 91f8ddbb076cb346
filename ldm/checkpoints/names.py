r"""One tensor, three names: a row of the table in `ldm.checkpoints.key_map`, and files read and written by it.

The numbers are the same everywhere, so converting a checkpoint is no computation. Only three things may have to
be done to a tensor, besides giving it another name:

- a convolution that looks at one pixel is a linear map, and some files store it so, as [out, in, 1, 1];
- OpenCLIP stacks the maps to query, key and value into one of three times the height;
- some writers leave off a prefix, or use names that older versions of their library had.
"""

from collections.abc import Iterable, Mapping
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

    def name(self, layout: Layout) -> str:
        return {"ours": self.ours, "diffusers": self.diffusers, "compvis": self.compvis}[layout]


@dataclass(frozen=True)
class Match:
    """What came of looking for a model's tensors in a file."""

    tensors: dict[str, Tensor]  # under our names; they share memory with the file's
    missing: list[str]  # as the file would call them
    left_over: list[str]  # as the file calls them
    dropped: list[str]  # likewise; known, and not needed


# What some writers leave off the names of CLIP's tensors (transformers from version 5 on, for one).
OPTIONAL_PREFIXES = ("text_model.", "vision_model.")
# What diffusers called the maps of the VAE's attention at first.
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
        elif full in found and _is_copy(tensor, found[full]):
            dropped.append(name)  # as merging two files leaves it that spell one name in two ways
        elif full in found:
            raise LdmError(
                f"the tensor {full} is in the file twice, with other numbers as {name}; take out one of the two"
            )
        else:
            found[full] = tensor
            if full not in wanted:
                dropped.append(name)
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
    """A file's tensor in our form. What should be a 1x1 convolution may as well be the linear map that it is."""
    if row.conv and tensor.ndim == 4:
        if tensor.shape[2:] != (1, 1):
            raise LdmError(f"{row.diffusers} has the shape {list(tensor.shape)}; expected [out, in, 1, 1]")
        return tensor[:, :, 0, 0]
    if layout == "compvis" and row.third is not None and tensor.ndim and tensor.shape[0] % 3 == 0:
        return tensor.tensor_split(3)[row.third]
    return tensor


def written(state: Mapping[str, Tensor], rows: Iterable[Row], layout: Layout) -> dict[str, Tensor]:
    """Our tensors under the names of a layout, in its form. Raises `LdmError` unless they are just the rows' ones."""
    rows = list(rows)
    ours = {row.ours for row in rows}
    complain([r.ours for r in rows if r.ours not in state], [name for name in state if name not in ours])
    stacks: dict[str, list[Tensor]] = {}
    for row in rows:
        tensor = state[row.ours]
        stacks.setdefault(row.name(layout), []).append(
            tensor[:, :, None, None] if layout in row.conv else tensor
        )
    return {name: torch.cat(stack) if len(stack) > 1 else stack[0] for name, stack in stacks.items()}


def some(names: list[str]) -> str:
    """At most ten of the names, and how many more there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def complain(missing: list[str], left_over: list[str], misshapen: list[str] | None = None) -> None:
    """Raise an `LdmError` that names them, if there are any."""
    troubles = {"missing": missing, "left over": left_over, "misshapen": misshapen or []}
    wrong = [f"{what}: {some(names)}" for what, names in troubles.items() if names]
    if wrong:
        raise LdmError(f"the tensors do not fit the model; {'; '.join(wrong)}. Is it another kind of model?")
