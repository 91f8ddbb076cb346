r"""The model with more than its own files have: a LoRA, a learned word, a ControlNet, or a second text encoder.

Nobody trained these for it. Most are random, from a fixed seed, and small enough that the image stays one. They mean
nothing, but they count, so a mistake in the code that reads them shows.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ldm.adapters.controlnet import HINT_CHANNELS, ControlNet
from ldm.checkpoints.control_file import control_rows
from ldm.checkpoints.folder import read_config, write_config
from ldm.checkpoints.names import rename
from ldm.checkpoints.safetensors_file import map_tensors, write_safetensors
from ldm.config import AddedConfig
from ldm.lab.museum.mistake import CONTROL
from ldm.text.tokenizer import Tokenizer
from ldm.unet.added import AddedEmbedding

CONNECTION = 0.12  # the size of a ControlNet's residuals, in units of the U-Net's skips
TRAINED = 0.1  # by how much of their deviation a ControlNet's weights differ from the U-Net's
SECOND = 0.3  # how much the context of a second text encoder counts, in units of the first one's
ADDED = 0.3  # the same of the pooled vector and the sizes, in units of the time embedding


def drawn(seed: int) -> Callable[..., Tensor]:
    """A function of a shape that draws a weight: what it puts out is about as large as what goes in. Biases are 0."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        if len(shape) == 1:
            return torch.zeros(shape)
        return torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))

    return draw


def with_lora(model: Path, place: Path) -> Path:
    """The model's own folder with a LoRA in it, `drift`: of random factors, every kind that people meet."""
    folder = place / "model"
    shutil.copytree(model, folder)
    file: dict[str, Tensor] = {}
    draw = drawn(7)
    for i, (name, weight) in enumerate(sorted(map_tensors(model / "unet.safetensors").items())):
        module = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        out, into = weight.shape[0], weight[:1].numel()
        if not name.endswith(".weight") or weight.ndim < 2 or not (".attn" in name or ".res" in name):
            continue
        size = 0.6 * weight.float().std() * math.sqrt(into)
        if weight.ndim == 4 and weight.shape[-1] == 3:  # a convolution, with a core
            file[f"{module}.lora_up.weight"] = size * draw(out, 4, 1, 1)
            file[f"{module}.lora_mid.weight"] = draw(4, 4, 3, 3)
            file[f"{module}.lora_down.weight"] = draw(4, weight.shape[1], 1, 1)
        elif "time_proj" in name:  # a Kronecker product of two whole factors
            file[f"{module}.lokr_w1"] = size * draw(4, 4)
            file[f"{module}.lokr_w2"] = 0.2 * draw(out // 4, into // 4)
        else:
            file[f"{module}.lora_up.weight"] = size * draw(out, 4)
            file[f"{module}.lora_down.weight"] = draw(4, into)
            if "self_attn" in name:  # with the lengths that its rows had
                file[f"{module}.dora_scale"] = weight.float().flatten(1).norm(dim=1, keepdim=True)
        file[f"{module}.alpha"] = torch.tensor([1.0, 2.0][i % 2])
    write_safetensors(folder / "drift.safetensors", file)
    return folder


def few_steps(model: Path, place: Path) -> Path:
    """The model's own folder with the LoRA of `with_lora` in it, under the name of one that distils a model."""
    folder = with_lora(model, place)
    (folder / "drift.safetensors").rename(folder / "sdxl_lightning_8step_lora.safetensors")
    return folder


def told_guidance(model: Path, place: Path) -> Path:
    """The model's own folder with a U-Net that is told the guidance scale, by a random map: as if it were distilled."""
    folder = place / "model"
    shutil.copytree(model, folder)
    config, path = read_config(model), folder / "unet.safetensors"
    width = config.unet.levels[0].channels
    write_config(folder, replace(config, unet=replace(config.unet, guidance_width=width)))
    tensors = {name: tensor.clone() for name, tensor in map_tensors(path).items()}
    drawn = torch.randn(width, width, generator=torch.Generator().manual_seed(7))
    tensors["time_embedding.guidance.weight"] = 0.1 * drawn / math.sqrt(width / 2)
    write_safetensors(path, tensors)
    return folder


def with_word(model: Path, place: Path) -> Path:
    """The model's own folder with a learned word in it, of two vectors: those of a cat with a scarf."""
    folder = place / "model"
    shutil.copytree(model, folder)
    tokenizer = Tokenizer.load(folder / "tokenizer")
    table = map_tensors(folder / "text.safetensors")["token_embedding.weight"]
    write_safetensors(folder / "learned.safetensors", {"<toy>": table[tokenizer.encode("cat scarf")].clone()})
    return folder


def with_control(model: Path, place: Path) -> Path:
    """The model's own folder and a ControlNet with random connections, stored as its difference from the U-Net."""
    folder = place / "model"
    shutil.copytree(model, folder)
    config, own, draw = read_config(model), map_tensors(model / "unet.safetensors"), drawn(8)
    levels = len(config.vae.channels)
    with torch.device("meta"):
        network = ControlNet(config.unet, HINT_CHANNELS[:levels])
    tensors = {}
    for name, parameter in network.named_parameters():
        if name in own:
            size = TRAINED * own[name].float().std(correction=0) * math.sqrt(own[name][:1].numel())
        else:  # a connection; or the encoder of the hint, where SiLU halves what goes through it
            size = torch.tensor(CONNECTION if name.startswith("zero") else 2.0)
        tensors[name] = size * draw(*parameter.shape)
    file = rename(tensors, control_rows(config.unet, levels), "compvis") | {"difference": torch.zeros(1)}
    write_safetensors(folder / CONTROL, {name: tensor.contiguous() for name, tensor in file.items()})
    return folder


def like_xl(model: Path, place: Path) -> Path:
    """The model with the further inputs of Stable Diffusion XL: a second text encoder, a pooled vector, and sizes."""
    folder = place / "model"
    shutil.copytree(model, folder)
    config, draw = read_config(model), drawn(9)
    width = config.text.width
    text = {name: tensor.clone() for name, tensor in map_tensors(model / "text.safetensors").items()}
    write_safetensors(folder / "text_2.safetensors", text | {"projection.weight": draw(width, width)})
    unet = {name: tensor.clone() for name, tensor in map_tensors(model / "unet.safetensors").items()}
    for name, weight in unet.items():
        if "cross_attn" in name and name.endswith((".k.weight", ".v.weight")):
            more = SECOND * weight.float().std() * math.sqrt(width) * draw(len(weight), width)
            unet[name] = torch.cat([weight, more.to(weight.dtype)], dim=1)
    added = AddedConfig(pooled_width=width)
    with torch.device("meta"):
        layers = AddedEmbedding(added, len(unet["time_embedding.linear_2.bias"]))
    for name, parameter in layers.named_parameters():
        size = ADDED if name.startswith("linear_2") else 1.0
        unet[f"added_embedding.{name}"] = size * draw(*parameter.shape)
    write_safetensors(folder / "unet.safetensors", unet)
    text_2 = replace(config.text, output="hidden", pad="zero", pooled_width=width)
    changed = replace(config.unet, context_width=2 * width, added=added)
    defaults = replace(config.defaults, empty_negative="zero")
    write_config(folder, replace(config, text_2=text_2, unet=changed, defaults=defaults))
    return folder
