r"""Where the time goes: the seconds and the operations of a network's layers, kind by kind.

An optimisation can gain no more than the layers that it touches take. So the first question is which layers those are,
and the second how far each is from what the processor can do. Operations are those of the plain layer: of a matrix
product of sizes n, m and k there are 2 n m k, a multiplication and an addition for each. An implementation that needs
fewer (`ldm/backend/winograd.py`) may so exceed the rate of a plain product.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ldm.nn.attention import Attention
from ldm.nn.hooks import add_hook
from ldm.nn.resnet import Upsample

REST = "all else: activations, additions, copies"


@dataclass
class Cost:
    """What the layers of one kind took together."""

    seconds: float = 0.0
    operations: float = 0.0


Costs = dict[str, Cost]  # by kind of layer


@contextmanager
def watch(network: nn.Module) -> Iterator[Costs]:
    """Time the layers of a network while the block runs. The result fills as they are called."""
    costs: Costs = {}

    def spend(kind: str, operations: float, seconds: float) -> None:
        cost = costs.setdefault(kind, Cost())
        cost.seconds += seconds
        cost.operations += operations

    with ExitStack() as undo:
        for layer in layers(network):
            undo.enter_context(
                watch_attention(layer, spend) if isinstance(layer, Attention) else watch_layer(layer, spend)
            )
        yield costs


def layers(network: nn.Module) -> list[nn.Module]:
    """The modules that are timed. An upsampling counts as its convolution, with which it may be fused."""
    inside = {part.conv for part in network.modules() if isinstance(part, Upsample)}
    timed = (nn.Conv2d, nn.Linear, nn.GroupNorm, nn.LayerNorm, Upsample, Attention)
    return [part for part in network.modules() if isinstance(part, timed) and part not in inside]


Spend = Callable[[str, float, float], None]  # kind, operations, seconds


@contextmanager
def watch_layer(layer: nn.Module, spend: Spend) -> Iterator[None]:
    """Time a layer from the hook before it to the hook after it."""
    begin = 0.0

    def before(*_: Any) -> None:
        nonlocal begin
        begin = time.perf_counter()

    def after(layer: nn.Module, _: Any, out: Tensor) -> None:
        spend(*described(layer, out), time.perf_counter() - begin)

    handles = add_hook(layer, before, before=True), add_hook(layer, after)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def described(layer: nn.Module, out: Tensor) -> tuple[str, float]:
    """The kind of a layer, and the operations that it needs for an output."""
    layer = layer.conv if isinstance(layer, Upsample) else layer
    if isinstance(layer, nn.Conv2d):
        side = layer.kernel_size[0]
        return f"{side}x{side} convolutions", 2.0 * out.numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return "linear layers", 2.0 * out.numel() * layer.in_features
    return "normalisation", 0.0


@contextmanager
def watch_attention(layer: Attention, spend: Spend) -> Iterator[None]:
    """Time what an attention layer does between its linear maps: scores, softmax and the average of the values."""
    attend = layer.attend

    def timed(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
        begin = time.perf_counter()
        out = attend(q, k, v, causal)
        (b, heads, n, d), m = q.shape, k.shape[-2]
        kind = f"self-attention over {n} positions" if n == m else "cross-attention"
        spend(kind, 4.0 * b * heads * n * m * d, time.perf_counter() - begin)
        return out

    layer.attend = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        del layer.attend  # the class's own again


def by_kind(network: nn.Module, work: Callable[[], object]) -> Costs:
    """What each kind of layer takes in one call of `work`, and what is left of its time."""
    with watch(network) as costs:
        begin = time.perf_counter()
        work()
        whole = time.perf_counter() - begin
    rest = whole - sum(cost.seconds for cost in costs.values())
    return costs | {REST: Cost(rest)}


def to_numbers(costs: Costs) -> dict[str, float]:
    """The costs as a case returns them."""
    return {
        f"{kind}, {what}": value
        for kind, cost in costs.items()
        for what, value in (("seconds", cost.seconds), ("operations", cost.operations))
    }


def from_numbers(number: Mapping[str, float]) -> Costs:
    """The costs among a case's numbers."""
    kinds = [name.removesuffix(", seconds") for name in number if name.endswith(", seconds")]
    return {kind: Cost(number[f"{kind}, seconds"], number[f"{kind}, operations"]) for kind in kinds}


def table(costs: Mapping[str, Cost], peak: float) -> list[str]:
    """Markdown: what each kind takes, and its rate as a percentage of `peak`, in operations per second."""
    seconds = sum(cost.seconds for cost in costs.values())
    operations = sum(cost.operations for cost in costs.values())
    rows = ["| layers | of the operations | seconds | of the time | of the peak |", "|---|---|---|---|---|"]
    ordered = sorted(costs.items(), key=lambda item: -item[1].seconds)
    for kind, cost in [*ordered, ("together", Cost(seconds, operations))]:
        rate = f"{100 * cost.operations / cost.seconds / peak:.0f}%" if cost.operations else "-"
        rows.append(
            f"| {kind} | {100 * cost.operations / operations:.0f}% | {cost.seconds:.2f} | "
            f"{100 * cost.seconds / seconds:.0f}% | {rate} |"
        )
    return rows
