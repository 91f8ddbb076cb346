r"""What the equation tests share: numpy arrays on the equation's side, tensors on the code's."""

import numpy as np
import torch
from torch import Tensor


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    r"""Standard normal float64 numbers; another `seed`, other numbers."""
    return np.random.RandomState(seed).standard_normal(shape)


def tensor(x: object) -> Tensor:
    r"""A number or an array as a float64 tensor."""
    return torch.tensor(np.asarray(x), dtype=torch.float64)


def agree(code: object, equation: object, tolerance: float = 1e-12) -> None:
    r"""Fail unless both are the same to `tolerance`, relative and absolute."""
    code = code.detach().numpy() if isinstance(code, Tensor) else np.asarray(code)
    equation = np.asarray(equation)
    assert code.shape == equation.shape, f"the code gives {code.shape}, the equation {equation.shape}"
    np.testing.assert_allclose(code, equation, rtol=tolerance, atol=tolerance)


def softmax(x: np.ndarray) -> np.ndarray:
    r"""Along the last axis."""
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
