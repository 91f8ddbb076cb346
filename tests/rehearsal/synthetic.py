r"""Checkpoints as their authors wrote them, and what goes with them, with the names, shapes and sizes of the real ones.

Their names come from our tables, and their shapes from our own models, built without memory. So they put to the test
what it costs to read such files, and not whether the names are right: lists of the real ones do that, elsewhere.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ldm.adapters.controlnet import ControlNet
from ldm.adapters.merge import Change
from ldm.backend.accelerate import accelerate
from ldm.checkpoints.control_file import PREFIX, control_rows
from ldm.checkpoints.lora_fit import parts_of
from ldm.checkpoints.lora_write import kohya
from ldm.checkpoints.names import rename
from ldm.checkpoints.safetensors_file import write_safetensors
from ldm.checkpoints.tiny_file import tiny_rows
from ldm.checkpoints.validate import configs_of, meta_model, on_meta, part_rows
from ldm.config import SD1, SDXL, Config, NoiseConfig, UNetLevel
from ldm.diffusion.schedule import make_alpha_bar, make_betas
from ldm.pipeline import LatentDiffusion
from ldm.text.tokenizer import Tokenizer
from ldm.vae.tiny import TinyVAE

HOMES = {
    "unet": ("model.diffusion_model.", "compvis"),
    "vae": ("first_stage_model.", "compvis"),
    "text": ("cond_stage_model.transformer.", "diffusers"),
}
HOMES_XL = {
    **HOMES,
    "text": ("conditioner.embedders.0.transformer.", "diffusers"),
    "text_2": ("conditioner.embedders.1.model.", "compvis"),
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


def narrow_xl() -> Config:
    r"""Stable Diffusion XL, likewise."""
    texts = (replace(text, width=64, layers=2, heads=1) for text in (SDXL.text, SDXL.text_2) if text)
    first, second = texts
    added = replace(SDXL.unet.added, pooled_width=64)  # type: ignore[type-var]
    levels = (UNetLevel(64, 1, 0), UNetLevel(64, 1, 1))
    return replace(
        SDXL,
        text=first,
        text_2=replace(second, pooled_width=64),
        vae=replace(SDXL.vae, channels=(32, 64), res_per_level=1),
        unet=replace(SDXL.unet, levels=levels, context_width=128, mid_depth=1, res_per_level=1, added=added),
    )


def shapes(config: Config) -> Iterator[tuple[str, torch.Size]]:
    r"""Name and shape of each tensor of a file of Stable Diffusion 1 or XL."""
    with torch.device("meta"):
        modules = {part: meta_model(part, sizes) for part, sizes in configs_of(config).items()}
    for part, (prefix, layout) in (HOMES_XL if config.text_2 else HOMES).items():
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


def write_xl(path: Path, config: Config) -> int:
    r"""Write a .safetensors of Stable Diffusion XL in half precision, tensor by tensor; returns how many parameters."""
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0)).half()
    stored, header, end = dict(shapes(config)), {}, 0
    for name, shape in stored.items():
        offsets = [end, end := end + 2 * shape.numel()]
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of their size, as the format wants it
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in stored.values():
            file.write(numbers(shape, pool).contiguous().numpy().tobytes())
    return end // 2


def without_weights(config: Config, dtype: torch.dtype) -> LatentDiffusion:
    r"""A model as `ldm.load` makes one, whose parameters are all parts of one small tensor, and so take no memory."""
    model = on_meta("model", lambda: LatentDiffusion(config, Tokenizer.clip(pad=config.text.pad)))
    largest = max(parameter.numel() for parameter in model.parameters())
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0))
    pool = (pool.repeat(-(-largest // POOL)) * 0.01).to(dtype)  # all activations stay small
    state = {}
    for name, parameter in model.named_parameters():
        shape = list(parameter.shape)
        if parameter.ndim == 4:  # channels last, as loading a file leaves it
            state[name] = (
                pool[: parameter.numel()].reshape(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2)
            )
        else:
            state[name] = pool[: parameter.numel()].reshape(shape)
    model.load_state_dict(state, assign=True)
    for network in (model.text, model.text_2, model.unet, model.vae):
        if network is not None:
            accelerate(network)
    return model.eval().requires_grad_(False)


def write_control(path: Path, config: Config) -> int:
    r"""Write a ControlNet for it as its authors would, in half precision; returns how many parameters it has."""
    with torch.device("meta"):
        network = ControlNet(config.unet, (16, 32, 96, 256)[: len(config.vae.channels)])
    rows = control_rows(config.unet, len(config.vae.channels))
    named = rename(dict(network.named_parameters()), rows, "compvis")
    return write_numbers(path, {PREFIX + name: tensor for name, tensor in named.items()})


def write_lora(path: Path, config: Config, rank: int = 16) -> int:
    r"""Write a LoRA for all that is attention, as kohya's programs do; returns how many parameters it has."""
    changes: dict[str, Change] = {}
    with torch.device("meta"):
        for part, sizes in parts_of(config).items():
            for name, weight in meta_model(part, sizes).named_parameters():
                if "attn." in name and name.endswith(".weight") and weight.ndim == 2:
                    rows, columns = weight.shape
                    factors = {"up": torch.empty(rows, rank), "down": torch.empty(rank, columns)}
                    changes[f"{part}.{name}"] = Change("LoRA", factors)
    return write_numbers(path, kohya(changes, parts_of(config)), scale=0.1)


def write_word(path: Path, config: Config) -> int:
    r"""Write a learned word of four vectors; returns how many numbers they have."""
    return write_numbers(path, {"emb_params": torch.empty(4, config.text.width, device="meta")})


def write_tiny(path: Path) -> int:
    r"""Write both halves of a TAESD, as diffusers does; returns how many parameters it has."""
    with torch.device("meta"):
        network = TinyVAE()
    return write_numbers(path, rename(dict(network.named_parameters()), tiny_rows(), "diffusers"))


def write_numbers(path: Path, named: Mapping[str, Tensor], scale: float = 1.0) -> int:
    r"""Write tensors of these names and shapes in half precision; returns how many numbers they have."""
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(1)).half() * scale
    state = {name: numbers(tensor.shape, pool).contiguous() for name, tensor in named.items()}
    write_safetensors(path, state)
    return sum(tensor.numel() for tensor in state.values())
