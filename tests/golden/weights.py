r"""Weights for models that two libraries build: drawn from a generator keyed by name and shape, not stored.

numpy's `RandomState` is frozen: the same key gives the same numbers in every version, on every machine.
"""

import math
import zlib
from collections.abc import Sequence

import numpy as np


def draw(name: str, shape: Sequence[int]) -> np.ndarray:
    r"""The tensor `name` (as diffusers or transformers call it), float64, sized to keep activations near 1.

    Nothing is left at 0 or 1, where faults could hide: norm weights are 1 with deviation 0.2, biases 0 with
    deviation 0.1.
    """
    key = zlib.crc32(f"{name} {tuple(shape)}".encode())
    mean, deviation = 0.0, 1.0
    if name.endswith("bias"):
        deviation = 0.1
    elif name == "logit_scale":
        mean, deviation = math.log(10), 0.1
    elif len(shape) > 1 and not name.endswith(("token_embedding.weight", "position_embedding.weight")):
        deviation = math.prod(shape[1:]) ** -0.5  # a matrix or a kernel: divided by the root of its inputs
    elif len(shape) == 1 and name.endswith(".weight"):  # a norm's
        mean, deviation = 1.0, 0.2
    x = np.random.RandomState(key).standard_normal(tuple(shape))
    return np.asarray(mean + deviation * x)
