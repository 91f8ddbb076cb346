r"""From a recipe to input tensors.

{"from": "philox", "seed": 13, "shape": [3, 4, 64, 64]}     noise of a CUDA device (`philox.py`)
{"from": "numpy", "seed": 0, "shape": [1, 4, 64, 64]}       numpy's `RandomState(seed).standard_normal`
{"from": "torch", "seed": 0, "shape": [1, 4, 96, 96]}       torch's `randn`, on the CPU
{"from": "file", "name": "noise.npy", "shape": [4, 77, 768]}    a file of the publisher, which the user may have
{"from": "lora", "name": "ink.safetensors"}    a LoRA of the publisher, likewise; it is merged into the model, no tensor
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError
from ldm.lab.verify.philox import cuda_noise

Recipe = Mapping[str, Any]


def is_recipe(value: object) -> bool:
    """Whether this value is a recipe for a tensor."""
    return isinstance(value, Mapping) and "from" in value


def missing_files(inputs: Mapping[str, Any], folder: Path | None) -> list[str]:
    """The files that these inputs need and that are not in `folder` (None: no folder)."""
    names = [
        value["name"] for value in inputs.values() if is_recipe(value) and value["from"] in ("file", "lora")
    ]
    return [name for name in names if folder is None or not (folder / name).is_file()]


def make_input(recipe: Recipe, folder: Path | None) -> Float[Tensor, "..."]:
    """The tensor of a recipe, on the CPU. Raises `LdmError` for an unknown recipe or an unsuitable file."""
    match recipe:
        case {"from": "philox", "seed": seed, "shape": shape}:
            return torch.from_numpy(cuda_noise(shape, seed))
        case {"from": "numpy", "seed": seed, "shape": shape}:
            return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))
        case {"from": "torch", "seed": seed, "shape": shape}:
            return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
        case {"from": "file", "name": name, "shape": shape} if folder is not None:
            return _read(folder / name, shape)
    raise LdmError(f"unknown recipe {dict(recipe)}; expected philox, numpy, torch or file")


def _read(path: Path, shape: list[int]) -> Float[Tensor, "..."]:
    try:
        numbers = np.load(path, allow_pickle=False)  # a pickle could run code
    except (OSError, ValueError, EOFError) as error:
        raise LdmError(f"{path} is not a file of a numpy array ({error}); fetch it again") from error
    if not isinstance(numbers, np.ndarray) or list(numbers.shape) != shape or numbers.dtype.kind != "f":
        got = getattr(numbers, "shape", type(numbers).__name__)
        raise LdmError(
            f"{path} holds {got}; expected floating-point numbers of the shape {shape}: fetch it again"
        )
    return torch.from_numpy(numbers)
