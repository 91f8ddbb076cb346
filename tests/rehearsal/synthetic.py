r"""A checkpoint as Stable Diffusion 1's authors wrote it, with the names, shapes and sizes of the real one.

Its names come from our table, and its shapes from our own model, built without memory: what reads this file is not put
to the test by it (that is done against lists of the real names, elsewhere), but what it costs to read it is.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ldm.adapters.controlnet import ControlNet
from ldm.checkpoints.control_file import PREFIX, control_rows
from ldm.checkpoints.names import rename
from ldm.checkpoints.safetensors_file import write_safetensors
from ldm.checkpoints.validate import configs_of, meta_model, part_rows
from ldm.config import SD1, Config, NoiseConfig, UNetLevel
from ldm.diffusion.schedule import make_alpha_bar, make_betas

HOMES = {
    "unet": ("model.diffusion_model.", "compvis"),
    "vae": ("first_stage_model.", "compvis"),
    "text": ("cond_stage_model.transformer.", "diffusers"),
}
POOL = 2**22  # as many random numbers are drawn, and used again and again


def narrow() -> Config:
    r"""Stable Diffusion 1, as narrow as it can be and still be recognised."""
    return replace(
        SD1,
        text=replace(SD1.text, width=8, layers=2, heads=1),
        vae=replace(SD1.vae, channels=(32, 64), res_per_level=1),
        unet=replace(
            SD1.unet, levels=(UNetLevel(32, 8, 1), UNetLevel(64, 8, 0)), context_width=8, res_per_level=1
        ),
    )


def shapes(config: Config) -> Iterator[tuple[str, torch.Size]]:
    r"""Name and shape of each tensor of a Stable Diffusion 1 file."""
    with torch.device("meta"):
        modules = {part: meta_model(part, sizes) for part, sizes in configs_of(config).items()}
    for part, (prefix, layout) in HOMES.items():
        rows = part_rows(part, getattr(config, part))
        for name, tensor in rename(dict(modules[part].named_parameters()), rows, layout).items():
            yield prefix + name, tensor.shape


def numbers_of(config: Config) -> tuple[int, int]:
    r"""How many numbers the networks have, and how many the largest tensor has."""
    sizes = [shape.numel() for _, shape in shapes(config)]
    return sum(sizes), max(sizes)


def numbers(shape: torch.Size, pool: Tensor) -> Tensor:
    r"""Numbers that keep activations near 1, so that painting meets no infinity: see `tests/golden/weights.py`."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.float16)  # norms as they are born; a bias of 1 does no harm
    count = math.prod(shape)
    drawn = pool[:count] if count <= len(pool) else pool.repeat(-(-count // len(pool)))[:count]
    return drawn.reshape(shape) * math.prod(shape[1:]) ** -0.5


def write_checkpoint(path: Path, config: Config) -> int:
    r"""Write it as a .ckpt in half precision; returns how many parameters it has."""
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0)).half()
    state = {name: numbers(shape, pool) for name, shape in shapes(config)}
    count = sum(tensor.numel() for tensor in state.values())
    length = config.text.context_length
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(length)[None]
    state |= {"betas": make_betas(NoiseConfig()), "alphas_cumprod": make_alpha_bar(NoiseConfig())}
    torch.save({"global_step": 0, "epoch": 0, "state_dict": state}, path)
    return count


def write_control(path: Path, config: Config) -> int:
    r"""Write a ControlNet for it as its authors would, in half precision; returns how many parameters it has."""
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(1)).half()
    with torch.device("meta"):
        network = ControlNet(config.unet, (16, 32, 96, 256)[: len(config.vae.channels)])
    rows = control_rows(config.unet, len(config.vae.channels))
    named = rename(dict(network.named_parameters()), rows, "compvis")
    state = {PREFIX + name: numbers(tensor.shape, pool).contiguous() for name, tensor in named.items()}
    write_safetensors(path, state)
    return sum(tensor.numel() for tensor in state.values())
