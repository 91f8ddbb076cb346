r"""A summary of the networks: each module's input and output shapes and its number of parameters.

The shapes are measured: forward hooks observe the networks' own forward passes. These run on torch's meta device, where
tensors have shapes but no contents, so Stable Diffusion takes no longer than the tiny model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ldm.config import Config
from ldm.nn.hooks import hooks
from ldm.nn.resnet import Downsample, ResBlock, Upsample
from ldm.pipeline import LatentDiffusion
from ldm.unet.embedding import TimeEmbedding
from ldm.unet.transformer import SpatialTransformer
from ldm.vae.mid import SpatialSelfAttention

# The modules that have one line in the table; so have layers outside of them.
BLOCKS = (TimeEmbedding, ResBlock, SpatialTransformer, SpatialSelfAttention, Downsample, Upsample)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ModuleSummary:
    """One module's forward pass. Shapes are without the batch; time, context and skips have shapes of their own."""

    module: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    parameters: int


def table_modules(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Named `BLOCKS` of a network and the layers between them; each parameter is in exactly one."""
    children = list(module.named_children())
    if isinstance(module, BLOCKS) or not children:
        if any(True for _ in module.parameters()):
            yield name, module
    else:
        for child, inner in children:
            yield from table_modules(inner, f"{name}.{child}".lstrip("."))


def summarize(network: nn.Module, modules: dict[str, nn.Module], *inputs: Tensor) -> list[ModuleSummary]:
    """Summarize `modules` of a network, which is called with these meta tensors, in order of execution."""
    seen: list[ModuleSummary] = []

    def watch(name: str, module: nn.Module, given: Any, made: Any) -> None:
        size = sum(p.numel() for p in module.parameters())
        seen.append(ModuleSummary(name, tuple(_shapes(given)), tuple(_shapes(made)), size))

    # The modules are the real ones; only this call uses weights without contents.
    weights = {name: p.detach().to("meta") for name, p in network.named_parameters()}
    with hooks((module, partial(watch, name)) for name, module in modules.items()):
        functional_call(network, weights, inputs)
    return seen


def _shapes(value: Any) -> Iterator[Shape]:
    if isinstance(value, Tensor):
        yield tuple(value.shape[1:])
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _shapes(item)


def meta_inputs(config: Config) -> dict[str, tuple[Tensor, ...]]:
    """Meta tensors as inputs of "unet", "encoder" and "decoder", for one image of the default size."""
    size, side = config.defaults.size, config.defaults.size // config.vae.factor
    with torch.device("meta"):
        context = torch.empty(1, config.text.context_length, config.unet.context_width)
        added = config.unet.added
        more = (
            () if added is None else ((), torch.empty(1, added.pooled_width), torch.empty(1, added.numbers))
        )
        return {
            "unet": (torch.empty(1, config.unet.in_channels, side, side), torch.empty(1), context, *more),
            "encoder": (torch.empty(1, 3, size, size),),
            "decoder": (torch.empty(1, config.vae.latent_channels, side, side),),
        }


def networks(model: LatentDiffusion) -> dict[str, nn.Module]:
    return {"unet": model.unet, "encoder": model.vae.encoder, "decoder": model.vae.decoder}
