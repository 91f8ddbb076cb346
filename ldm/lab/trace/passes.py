r"""One pass through U-Net and VAE, seen by its modules: what goes in, what comes out, how many numbers are learned.

Nothing is listed by hand. The networks' own forward passes are run, and hooks on their modules note what passes. They
run on torch's meta device, where tensors have shapes and no contents: Stable Diffusion takes no longer than the tiny
model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ldm.config import Config
from ldm.nn.resnet import Downsample, ResBlock, Upsample
from ldm.pipeline import LatentDiffusion
from ldm.unet.embedding import TimeEmbedding
from ldm.unet.transformer import SpatialTransformer
from ldm.vae.mid import PixelAttention

# A table's lines: these, and what stands outside of them.
PARTS = (TimeEmbedding, ResBlock, SpatialTransformer, PixelAttention, Downsample, Upsample)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Pass:
    """One module, once through. A shape is without the batch; time, text and each skip have shapes of their own."""

    module: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    parameters: int


def parts(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """A network cut into named `PARTS` and what is left between them, so that each parameter lies in one of them."""
    children = list(module.named_children())
    if isinstance(module, PARTS) or not children:
        if any(True for _ in module.parameters()):
            yield name, module
    else:
        for child, inner in children:
            yield from parts(inner, f"{name}.{child}".lstrip("."))


def passes(network: nn.Module, chosen: dict[str, nn.Module], *inputs: Tensor) -> list[Pass]:
    """What the chosen modules of a network see when it is given these inputs (meta tensors), in order of execution."""
    seen: list[Pass] = []

    def note(name: str, module: nn.Module) -> Any:
        def hook(_: Any, given: Any, made: Any) -> None:
            size = sum(p.numel() for p in module.parameters())
            seen.append(Pass(name, tuple(_shapes(given)), tuple(_shapes(made)), size))

        return module.register_forward_hook(hook)

    handles = [note(name, module) for name, module in chosen.items()]
    try:
        # The modules are the real ones; only for this call they work with weights that have no contents.
        weights = {name: p.detach().to("meta") for name, p in network.named_parameters()}
        functional_call(network, weights, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _shapes(value: Any) -> Iterator[Shape]:
    if isinstance(value, Tensor):
        yield tuple(value.shape[1:])
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _shapes(item)


def inputs(config: Config) -> dict[str, tuple[Tensor, ...]]:
    """What one picture of the model's default size gives each network: "unet", "encoder" and "decoder"."""
    side = config.defaults.size // config.vae.factor
    text = (config.text.context_length, config.unet.context_width)
    with torch.device("meta"):
        return {
            "unet": (
                torch.empty(1, config.unet.in_channels, side, side),
                torch.empty(1),
                torch.empty(1, *text),
            ),
            "encoder": (torch.empty(1, 3, config.defaults.size, config.defaults.size),),
            "decoder": (torch.empty(1, config.vae.latent_channels, side, side),),
        }


def networks(model: LatentDiffusion) -> dict[str, nn.Module]:
    return {"unet": model.unet, "encoder": model.vae.encoder, "decoder": model.vae.decoder}
