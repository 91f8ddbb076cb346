r"""The shapes in the diagrams are measured: the real networks run on the meta device, which has shapes only."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ldm.config import PRESETS, Config
from ldm.text.encoder import TextEncoder
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Shapes:
    """What flows through a model for one prompt at its own size; all shapes without the batch."""

    config: Config
    ids: tuple[int, ...]
    context: tuple[int, ...]
    latent: tuple[int, ...]
    picture: tuple[int, ...]
    # module name -> what it puts out; for a level of the U-Net's way down, its skips
    unet: dict[str, list[tuple[int, ...]]]
    encoder: dict[str, list[tuple[int, ...]]]
    decoder: dict[str, list[tuple[int, ...]]]


@cache
def measure(name: str) -> Shapes:
    """`name` is a preset's, or "tiny" for the model that ships, whose vocabulary was learned."""
    tiny = ROOT / "weights" / "tiny" / "config.json"
    config = Config.from_json(tiny.read_text(encoding="utf-8")) if name == "tiny" else PRESETS[name]
    side = config.defaults.size // config.vae.factor
    with torch.device("meta"), torch.no_grad():
        text, unet, vae = TextEncoder(config.text), UNet(config.unet), VAE(config.vae)
        ids = torch.zeros(1, config.text.context_length, dtype=torch.long)
        context = text(ids)
        latent = torch.zeros(1, config.vae.latent_channels, side, side)
        seen = [watch(network) for network in (unet, vae.encoder, vae.decoder)]
        unet(torch.zeros(1, config.unet.in_channels, side, side), torch.tensor(0), context)
        picture = vae.decode(latent)
        vae.encode(picture)
    return Shapes(config, *(tuple(x.shape[1:]) for x in (ids, context, latent, picture)), *seen)


def watch(network: nn.Module) -> dict[str, list[tuple[int, ...]]]:
    """A table that fills itself when the network runs."""
    seen: dict[str, list[tuple[int, ...]]] = {}

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
            tensors = output[1] if isinstance(output, tuple) else [output]
            seen[name] = [tuple(x.shape[1:]) for x in tensors]

        return hook

    for name, module in network.named_modules():
        if name.count(".") <= 1:
            module.register_forward_hook(note(name))
    return seen


def times(shape: tuple[int, ...]) -> str:
    return " × ".join(str(n) for n in shape)
