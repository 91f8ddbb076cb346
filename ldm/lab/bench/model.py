"""The model that is measured: random weights, in a folder of diffusers' layout, which both arms can read."""

import math
from pathlib import Path

import torch
from torch import Tensor

from ldm.checkpoints.validate import configs_of, skeleton
from ldm.checkpoints.write import write_diffusers
from ldm.config import Config
from ldm.text.tokenizer import Tokenizer


def random_weights(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers that keep activations near one, so that nothing overflows: norms 1, biases 0, others 1 / sqrt(inputs)."""
    if len(shape) < 2:
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    return torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))


def write_model(folder: Path, config: Config, tokenizer: Tokenizer) -> None:
    """Write a model of random float32 weights to `folder`. Stable Diffusion 1 takes 4 GB."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for part, sizes in configs_of(config).items():
        shapes = {name: tuple(p.shape) for name, p in skeleton(part, sizes).named_parameters()}
        tensors[part] = {name: random_weights(name, shape, generator) for name, shape in shapes.items()}
    write_diffusers(folder, config, tokenizer, tensors)
