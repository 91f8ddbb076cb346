r"""What the tests with golden outputs share: reading a file, filling a model, holding two tensors equal."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ldm.checkpoints.names import Row
from tests.golden.clip_rows import from_diffusers, to_diffusers
from tests.golden.weights import draw


def golden(name: str) -> dict[str, Tensor]:
    r"""The arrays of `<name>.npz`; `make.py` wrote them."""
    with np.load(Path(__file__).parent / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if key != "made_with"}


def filled(model: nn.Module, rows: list[Row]) -> nn.Module:
    r"""The model in float64 with the weights of `weights.py`, drawn under the file's names and shapes."""
    shapes = {name: tensor.shape for name, tensor in to_diffusers(model.state_dict(), rows).items()}
    state = {name: torch.from_numpy(draw(name, shape)) for name, shape in shapes.items()}
    model = model.double()
    model.load_state_dict(from_diffusers(state, rows))
    return model.eval().requires_grad_(False)


def difference(got: Tensor, expected: Tensor) -> float:
    r"""The largest difference, in units of the largest expected value."""
    assert got.shape == expected.shape, f"{tuple(got.shape)}, expected {tuple(expected.shape)}"
    return ((got - expected).abs().max() / expected.abs().max()).item()


def assert_same(
    got: Tensor, expected: Tensor, tolerance: float = 1e-10, why: Callable[[], str] | None = None
) -> None:
    r"""Fail if the two differ; `why` is called then, and says more (see `explain.py`)."""
    found = difference(got, expected) if got.shape == expected.shape else math.inf
    if not found <= tolerance:
        what = f"{found:.1e} of the largest value" if got.shape == expected.shape else "another shape"
        shapes = f"{tuple(got.shape)}, expected {tuple(expected.shape)}"
        raise AssertionError(f"{what} (tolerance {tolerance:.0e}; {shapes})\n{why() if why else ''}")
