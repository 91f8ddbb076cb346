r"""Watch cross-attention: which weights every layer and head gives to the tokens while the U-Net runs.

A fused kernel never writes the weights down, so a hook evaluates each layer once more by hand (`ldm/nn/attention.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import partial
from typing import Any

import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from ldm.config import Config
from ldm.errors import LdmError
from ldm.nn.attention import Attention
from ldm.nn.hooks import add_hook
from ldm.unet.transformer import SpatialTransformer

# Receives the layer's name in the U-Net, its (height, width), and its weights [b, heads, n, m] for n = height x width
# pixels and m tokens.
See = Callable[[str, tuple[int, int], Tensor], None]


def head_counts(unet: nn.Module) -> dict[str, int]:
    """The cross-attention layers of a U-Net by name, such as "up.0.attn.1.layers.0", with their numbers of heads."""
    return {
        name.removesuffix(".cross_attn"): module.heads
        for name, module in unet.named_modules()
        if isinstance(module, Attention) and name.endswith(".cross_attn")
    }


def chosen_heads(config: Config, unet: nn.Module) -> dict[str, list[int]]:
    """The heads whose maps are shown: those of `config.map_heads`, or all if it names none.

    Raises `LdmError` if it names one that the U-Net lacks.
    """
    counts = head_counts(unet)
    if not config.map_heads:
        return {name: list(range(count)) for name, count in counts.items()}
    chosen: dict[str, list[int]] = {}
    for entry in config.map_heads:
        if entry.head >= counts.get(entry.layer, 0):
            raise LdmError(
                f"config.map_heads names head {entry.head} of {entry.layer!r}, which this U-Net lacks; "
                f"choose them with `ldm evaluate --choose-heads`, or leave the list empty"
            )
        chosen.setdefault(entry.layer, []).append(entry.head)
    return chosen


@contextmanager
def watch_attention(unet: nn.Module, see: See) -> Iterator[None]:
    """Call `see` with the cross-attention weights of every layer, whenever this thread evaluates the U-Net.

    Everything is removed when the block ends, and other threads that use the U-Net meanwhile are not affected.
    """
    with ExitStack() as undo:
        for name, module in unet.named_modules():
            if isinstance(module, SpatialTransformer):
                _watch(name, module, see, undo)
        yield


def _watch(name: str, transformer: SpatialTransformer, see: See, undo: ExitStack) -> None:
    resolution = (1, 1)

    def measure(_: Any, inputs: tuple[Tensor, ...]) -> None:
        nonlocal resolution
        resolution = (inputs[0].shape[-2], inputs[0].shape[-1])

    def report(layer: str, _: Any, inputs: Any, weights: Tensor) -> None:
        see(layer, resolution, weights)

    undo.callback(add_hook(transformer, measure, before=True).remove)
    for i, layer in enumerate(transformer.layers):
        attention = layer.cross_attn
        assert isinstance(attention, Attention)
        by_hand = _by_hand_copy(attention)
        by_hand.weights_probe.register_forward_hook(partial(report, f"{name}.layers.{i}"))
        undo.callback(add_hook(attention, partial(_replace_output, by_hand)).remove)


def _by_hand_copy(attention: Attention) -> Attention:
    """A layer with the same weights that computes attention by hand; switching the layer itself affects all threads."""
    by_hand = copy(attention)
    by_hand._modules = {**attention._modules, "weights_probe": nn.Identity()}
    by_hand.by_hand = True
    return by_hand


def _replace_output(by_hand: Attention, _: Any, inputs: tuple[Tensor, Tensor], out: Tensor) -> Tensor:
    return by_hand.forward(*inputs)  # not a call, which would run the layer's hooks, including this one


def attention_map(
    weights: Float[Tensor, "b heads n m"],
    resolution: tuple[int, int],
    size: tuple[int, int],
    heads: Sequence[int] | None = None,
) -> Float[Tensor, "b m h w"]:
    """The mean over `heads` (None: all) of one layer's weights, n pixels by m tokens, as m maps of `size`.

    `resolution` is the layer's (height, width), `size` that of the maps, to which they are resized.
    """
    chosen = weights if heads is None else weights[:, list(heads)]
    maps = rearrange(
        reduce(chosen.float(), "b heads n m -> b n m", "mean"), "b (h w) m -> b m h w", h=resolution[0]
    )
    return F.interpolate(maps, size=size, mode="bilinear", antialias=size[0] < resolution[0])
