r"""What goes out of every layer of a model, in the order in which the layers run: enough numbers to compare it by.

Nothing of `ldm` is imported here, for `make.py` records the reference libraries' layers with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

SAMPLE = 6  # numbers that are kept of each output


def sample(layer: nn.Module, output: Tensor) -> Tensor:
    r"""A few numbers of an output, spread over it, the same ones whether positions are a row or a rectangle."""
    if isinstance(layer, (nn.Conv2d, nn.GroupNorm)):  # b c ..., which the others have as b ... c
        output = output.movedim(1, -1)
    flat = output.detach().reshape(-1).double()
    return flat[torch.linspace(0, len(flat) - 1, SAMPLE, dtype=torch.float64).long()]


@contextmanager
def watched(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    r"""The dict fills, while it lasts, with a sample of what goes out of each layer that has weights."""
    seen: dict[str, Tensor] = {}

    def watch(name: str, layer: nn.Module) -> None:
        def note(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            seen.pop(name, None)  # of several calls, the last one
            seen[name] = sample(layer, output)

        layers.append(layer.register_forward_hook(note))

    layers: list[torch.utils.hooks.RemovableHandle] = []
    for name, layer in model.named_modules():
        if isinstance(getattr(layer, "weight", None), Tensor) and not list(layer.children()):
            watch(name, layer)
    try:
        yield seen
    finally:
        for handle in layers:
            handle.remove()


def packed(names: list[str]) -> Tensor:
    r"""Names as numbers, which an .npz file can hold without pickling."""
    return torch.tensor(list("\n".join(names).encode()), dtype=torch.uint8)


def unpacked(numbers: Tensor) -> list[str]:
    return bytes(numbers.tolist()).decode().split("\n")
