r"""Checkpoints for tests, in every layout, with random weights: real in everything but their size."""

import json
import pickle
import struct
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ldm.checkpoints.names import rename
from ldm.checkpoints.opening import TOKENIZER
from ldm.checkpoints.safetensors_file import write_safetensors
from ldm.checkpoints.tokenizer_io import tokenizer_text
from ldm.checkpoints.validate import configs_of, meta_model, part_rows
from ldm.checkpoints.write import homes
from ldm.config import (
    SD1,
    SD1_INPAINT,
    SD1_LCM,
    SD2_BASE,
    SD2_INPAINT,
    SD2_V,
    SDXL,
    SDXL_INPAINT,
    SDXL_LCM,
    SDXL_REFINER,
    AddedConfig,
    Config,
    TextConfig,
    UNetLevel,
)
from ldm.text.tokenizer import Tokenizer
from tests.small import MERGES


def tokenizer(config: Config) -> Tokenizer:
    r"""One with a handful of merges, padded as the family does it. (CLIP's own takes a while to read.)"""
    return Tokenizer(MERGES, context_length=32, pad=config.text.pad)


def save(path: Path, config: Config, file: dict[str, Tensor]) -> Path:
    r"""A safetensors file that carries its tokenizer, but no config."""
    write_safetensors(path, file, {TOKENIZER: tokenizer_text(tokenizer(config))})
    return path


def small_xl(config: Config) -> Config:
    r"""Stable Diffusion XL or its refiner, likewise; every width is another one."""
    words = tokenizer(config)

    def narrow(text: TextConfig) -> TextConfig:
        width = 16 if text.pooled_width else 8
        sizes = {
            "vocab_size": words.vocab_size,
            "context_length": 32,
            "width": width,
            "layers": 2,
            "heads": 1,
        }
        return replace(text, **sizes, pooled_width=text.pooled_width and 12)

    assert config.unet.added is not None
    text, text_2 = narrow(config.text), config.text_2 and narrow(config.text_2)
    return replace(
        config,
        text=text,
        text_2=text_2,
        vae=replace(config.vae, channels=(32, 64), res_per_level=1),
        unet=replace(
            config.unet,
            levels=(UNetLevel(64, 1, 0), UNetLevel(128, 2, 2)),
            mid_depth=2,
            context_width=text.width + (text_2.width if text_2 else 0),
            res_per_level=1,
            added=AddedConfig(12, config.unet.added.numbers, 8),
        ),
    )


def small(config: Config) -> Config:
    r"""The same family, as narrow as detection without a config can bear, and of few words."""
    if config.unet.added:
        return small_xl(config)
    second = config.text.output == "penultimate"
    words = tokenizer(config)
    levels = (
        (UNetLevel(64, 1, 1), UNetLevel(128, 2, 0)) if second else (UNetLevel(32, 8, 1), UNetLevel(64, 8, 0))
    )
    return replace(
        config,
        text=replace(
            config.text,
            vocab_size=words.vocab_size,
            context_length=words.context_length,
            width=8,
            layers=3 if second else 2,
            heads=1,
        ),
        vae=replace(config.vae, channels=(32, 64), res_per_level=1),
        unet=replace(config.unet, levels=levels, context_width=8, res_per_level=1),
        image=None,
        embedding_width=None,
    )


FAMILIES = {
    c.name: small(c)
    for c in (
        *(SD1, SD1_INPAINT, SD1_LCM, SD2_BASE, SD2_V, SD2_INPAINT),
        *(SDXL, SDXL_INPAINT, SDXL_LCM, SDXL_REFINER),
    )
}


def random_tensors(
    config: Config, seed: int = 0, dtype: torch.dtype = torch.float16
) -> dict[str, dict[str, Tensor]]:
    r"""Every tensor of a model, by part, under our names. The tensors are shared: none may be changed in place."""
    return {part: dict(tensors) for part, tensors in _random_tensors(config, seed, dtype).items()}


@cache
def _random_tensors(config: Config, seed: int, dtype: torch.dtype) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return {
        part: {
            name: torch.randn(p.shape, generator=generator).to(dtype)
            for name, p in meta_model(part, sizes).named_parameters()
        }
        for part, sizes in configs_of(config).items()
    }


def single_file(config: Config, tensors: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    r"""The tensors as an original file names them, with all that such a file has besides."""
    if config.unet.added:
        return single_file_xl(config, tensors)
    second = config.text.output == "penultimate"
    file: dict[str, Tensor] = {"betas": torch.ones(4), "model_ema.decay": torch.tensor(0.9)}
    for part, prefix in (("unet", "model.diffusion_model."), ("vae", "first_stage_model.")):
        rows = part_rows(part, getattr(config, part), second)
        file |= {prefix + name: t for name, t in rename(tensors[part], rows, "compvis").items()}
    rows, width = part_rows("text", config.text), config.text.width
    if not second:
        prefix = "cond_stage_model.transformer."
        file |= {prefix + name: t for name, t in rename(tensors["text"], rows, "diffusers").items()}
        return file | {
            prefix + "text_model.embeddings.position_ids": torch.arange(config.text.context_length)[None]
        }
    prefix = "cond_stage_model.model."
    text = rename(tensors["text"], rows, "compvis")
    last = f"transformer.resblocks.{config.text.layers - 1}."
    text |= {
        last + name.removeprefix("transformer.resblocks.0."): t + 1
        for name, t in list(text.items())
        if name.startswith("transformer.resblocks.0.")
    }
    text |= {"text_projection": torch.ones(width, width), "logit_scale": torch.tensor(1.0)}
    return file | {prefix + name: t for name, t in text.items()}


def single_file_xl(config: Config, tensors: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    r"""The same for Stable Diffusion XL, whose files hold no noise schedule."""
    file: dict[str, Tensor] = {"denoiser.sigmas": torch.ones(4)}
    for part, (prefix, layout) in homes(config).items():
        rows = part_rows(part, getattr(config, part), linear_projection=True)
        file |= {prefix + name: t for name, t in rename(tensors[part], rows, layout).items()}
        if layout == "diffusers":
            file[prefix + "text_model.embeddings.position_ids"] = torch.arange(32)[None]
        elif part.startswith("text"):
            file[prefix + "logit_scale"] = torch.tensor(1.0)
    return file


def with_ema(file: dict[str, Tensor]) -> dict[str, Tensor]:
    r"""The file with averaged weights of the U-Net: the live ones plus one."""
    names = [name for name in file if name.startswith("model.diffusion_model.")]
    ema = {"model_ema." + n.removeprefix("model.").replace(".", ""): file[n] + 1 for n in names}
    return file | ema | {"model_ema.num_updates": torch.tensor(7)}


def raw_safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    r"""A safetensors file by hand, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


class Evil:
    r"""Asks its reader to call a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def evil_zip(path: Path, thing: object, protocol: int = 2) -> Path:
    r"""An archive as torch writes it, around a pickle of anything."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(thing, protocol))
        archive.writestr("archive/version", "3\n")
    return path
