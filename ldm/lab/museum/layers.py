r"""At which layer do two runs of a model begin to differ, and by how much?

A forward hook on every layer that has weights keeps some numbers of what comes out, at its first call; forward
pre-hooks on the networks keep what goes in. The names are kept in the order in which the layers run, so the first name
whose numbers differ is where the difference begins.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ldm.nn.hooks import add_hook

SAMPLE = 2000  # numbers that are kept of each output
ROUNDING = 3e-7  # of a layer's largest number; a wrong epsilon in a norm makes a larger difference

Outputs = Mapping[str, np.ndarray]
# What goes into the networks, by the module that it goes into.
INPUTS = {
    "text.token_embedding": ("the token ids",),
    "unet": ("the latent x_t", "the timestep t", "the context"),
    "vae.encoder": ("the image's pixels",),
    "vae.decoder": ("the latent that is decoded",),
}


@dataclass(frozen=True)
class Beginning:
    """The first place where two runs differ."""

    place: str  # a layer's name in the model, or one of `INPUTS`
    difference: (
        float  # the largest one, in units of the right run's largest number; infinite if there is none
    )


def some_numbers(values: Tensor) -> np.ndarray:
    """At most `SAMPLE` numbers, spread evenly over a tensor, and its size, so that another shape shows."""
    flat = values.detach().reshape(-1).double()
    places = torch.linspace(0, max(0, flat.numel() - 1), min(SAMPLE, flat.numel()), dtype=torch.float64)
    return np.append(flat[places.long()].numpy(), float(flat.numel()))


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, np.ndarray]]:
    """While it lasts, the dict fills with some numbers of every network's inputs and every layer's output."""
    seen: dict[str, np.ndarray] = {}
    hooks = []

    def watch(name: str, layer: nn.Module) -> None:
        def keep(_: nn.Module, __: Any, output: Tensor) -> None:
            if name not in seen:
                seen[name] = some_numbers(output)

        hooks.append(add_hook(layer, keep))

    def watch_inputs(network: nn.Module, names: tuple[str, ...]) -> None:
        def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            for name, value in zip(names, inputs):
                if name not in seen:
                    seen[name] = some_numbers(torch.as_tensor(value))

        hooks.append(add_hook(network, keep, before=True))

    for name, module in model.named_modules():
        if isinstance(getattr(module, "weight", None), Tensor) and not list(module.children()):
            watch(name, module)
        if name in INPUTS:
            watch_inputs(module, INPUTS[name])
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def beginning(right: Outputs, wrong: Outputs) -> Beginning | None:
    """Where the wrong run begins to differ from the right one; None if it nowhere does."""
    for place, expected in right.items():
        if place not in wrong:
            return Beginning(place, float("inf"))
        if difference(expected, wrong[place]) > ROUNDING:
            return Beginning(place, difference(expected, wrong[place]))
    added = [place for place in wrong if place not in right]
    return Beginning(added[0], float("inf")) if added else None


def difference(right: np.ndarray, wrong: np.ndarray) -> float:
    """The largest difference, in units of the right run's largest number; infinite for another shape or NaN."""
    if right.shape != wrong.shape or right[-1] != wrong[-1] or not np.isfinite(wrong).all():
        return float("inf")
    largest = float(np.abs(right[:-1]).max(initial=0))
    gap = float(np.abs(wrong[:-1] - right[:-1]).max(initial=0))
    return gap / largest if largest else (float("inf") if gap else 0.0)
