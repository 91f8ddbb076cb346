"""What is measured: the sizes of the model and of its images, and a model of random weights."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ldm.checkpoints.validate import configs_of, meta_model
from ldm.checkpoints.write import write_diffusers
from ldm.config import SD1, Config, UNetLevel
from ldm.text.tokenizer import Tokenizer

# About 190 characters, as people write them. "painting number i" makes each prompt new.
PROMPT = (
    "a photograph of an astronaut riding a horse through a quiet village in the mountains, painting number {}, "
    "golden evening light, long shadows, dust in the air, highly detailed, by an old master"
)


@dataclass(frozen=True)
class Sizes:
    """The model, its images, and the number of repetitions."""

    config: Config
    side: int = 512  # pixels
    steps: int = 20  # sampling steps of a whole image
    prompts: int = 2000  # for the tokenizer
    training: int = 10  # training steps, after one to warm up
    batch: int = 32  # of training
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)  # images made at once, when images per second are measured


FULL = Sizes(replace(SD1, image=None, embedding_width=None))
# The same model with few channels: a quick run only shows that the benchmark works.
QUICK = Sizes(
    replace(
        FULL.config,
        text=replace(SD1.text, layers=2),
        vae=replace(SD1.vae, channels=(32, 64, 128, 128)),
        unet=replace(
            SD1.unet,
            levels=(UNetLevel(64, 8, 1), UNetLevel(128, 8, 1), UNetLevel(256, 8, 1), UNetLevel(256, 8, 0)),
        ),
    ),
    side=128,
    steps=4,
    prompts=200,
    training=2,
    batch=8,
    batches=(1, 4),
)


def random_weights(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Weights that keep activations near 1, so that nothing overflows: norms 1, biases 0, others 1 / sqrt(inputs)."""
    if len(shape) < 2:
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    return torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))


def write_model(folder: Path, config: Config, tokenizer: Tokenizer) -> None:
    """Write a model of random float32 weights in diffusers' layout. Stable Diffusion 1 takes 4 GB."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for part, sizes in configs_of(config).items():
        shapes = {name: tuple(p.shape) for name, p in meta_model(part, sizes).named_parameters()}
        tensors[part] = {name: random_weights(name, shape, generator) for name, shape in shapes.items()}
    write_diffusers(folder, config, tokenizer, tensors)
