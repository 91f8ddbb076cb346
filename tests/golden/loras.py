r"""LoRA files for models that two libraries build: factors drawn by name and shape, in the spellings people meet.

A LoRA here is a table from modules, as diffusers names them, to the factors of each. It is float32, as such files are.
"""

import math
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from tests.golden.weights import draw

Factors = dict[str, Tensor]
# What people train: attention, the transformers' other layers, residual blocks, down- and upsampling; CLIP's layers.
TRAINED = re.compile(r"attentions|resnets|samplers|self_attn|mlp")
ATTENTION = re.compile(r"attn[12]\.to_|self_attn")


def make_lora(shapes: Mapping[str, Iterable[int]], rank: int = 3, dora: bool = False) -> dict[str, Factors]:
    r"""Factors for every trained weight of a model with parameters of these shapes; with `dora` magnitudes as well."""
    lora: dict[str, Factors] = {}
    for name, shape in shapes.items():
        shape, module = tuple(shape), name.removesuffix(".weight")
        if not TRAINED.search(name) or not name.endswith(".weight") or len(shape) < 2:
            continue
        sizes = {"down": (rank, *shape[1:]), "up": (shape[0], rank, *[1] * (len(shape) - 2))}
        lora[module] = {
            factor: torch.from_numpy(draw(f"{module}.{factor}", size)).float()
            for factor, size in sizes.items()
        }
        if dora:
            lengths = 1 + 0.3 * draw(f"{module}.bias", shape[:1])
            lora[module]["magnitude"] = torch.from_numpy(lengths).abs().float()
    return lora


def delta(factors: Factors, alpha: float | None = None) -> Tensor:
    r"""The change to a weight in plain torch, [out, in * kernel], in float64."""
    up, down = factors["up"].double().flatten(1), factors["down"].double().flatten(1)
    return (1.0 if alpha is None else alpha / len(down)) * up @ down


def kohya(
    lora: Mapping[str, Factors], prefix: str = "lora_unet_", alpha: float | None = None
) -> dict[str, Tensor]:
    r"""Every dot an underscore, alpha in the file; DoRA's magnitudes with a one for every other axis."""
    file = {}
    for module, factors in lora.items():
        flat = prefix + module.replace(".", "_")
        file |= {f"{flat}.lora_{name}.weight": factors[name] for name in ("up", "down")}
        if alpha is not None:
            file[f"{flat}.alpha"] = torch.tensor(alpha)
        if "magnitude" in factors:
            file[f"{flat}.dora_scale"] = factors["magnitude"].reshape(-1, *[1] * (factors["up"].ndim - 1))
    return file


def peft(
    lora: Mapping[str, Factors], prefix: str = "unet.", letters: tuple[str, str] = ("A", "B")
) -> dict[str, Tensor]:
    r"""A and B for down and up; no alpha."""
    file = {}
    for module, factors in lora.items():
        file[f"{prefix}{module}.lora_{letters[0]}.weight"] = factors["down"]
        file[f"{prefix}{module}.lora_{letters[1]}.weight"] = factors["up"]
        if "magnitude" in factors:
            ones = [1] * (factors["up"].ndim - 2)
            lengths = factors["magnitude"]
            file[f"{prefix}{module}.lora_magnitude_vector"] = (
                lengths.reshape(1, -1, *ones) if ones else lengths
            )
    return file


def processors(lora: Mapping[str, Factors], prefix: str = "unet.") -> dict[str, Tensor]:
    r"""What diffusers wrote in 2023: the attention's projections alone."""
    file = {}
    for module, factors in lora.items():
        if ATTENTION.search(module):
            head, _, last = module.removesuffix(".0").rpartition(".")
            old = (
                f"{head}.processor.{last}_lora"
                if last.startswith("to_")
                else f"{head}.to_{last[: -len('_proj')]}_lora"
            )
            file |= {f"{prefix}{old}.{name}.weight": factors[name] for name in ("up", "down")}
    return file


def linear_layers(lora: Mapping[str, Factors], prefix: str) -> dict[str, Tensor]:
    r"""What diffusers wrote for text encoders in 2023."""
    return {
        f"{prefix}{module}.lora_linear_layer.{name}.weight": factors[name]
        for module, factors in lora.items()
        for name in ("up", "down")
    }


def scaled(lora: Mapping[str, Factors], alpha: float) -> dict[str, Factors]:
    r"""The same LoRA for spellings without an alpha: the square root of alpha / rank in each factor, in float64."""
    share = math.sqrt(alpha / len(next(iter(lora.values()))["down"]))
    return {
        module: {name: t.double() * (1 if name == "magnitude" else share) for name, t in factors.items()}
        for module, factors in lora.items()
    }
