r"""A model of a few thousand numbers, with every part that the real ones have: too small to paint anything."""

from pathlib import Path

import torch

from ldm.checkpoints.folder import write_clip, write_config, write_tensors
from ldm.config import (
    Config,
    Defaults,
    ImageConfig,
    NoiseConfig,
    TextConfig,
    UNetConfig,
    UNetLevel,
    VAEConfig,
)
from ldm.pipeline import LatentDiffusion
from ldm.text.clip import CLIP
from ldm.text.tokenizer import Tokenizer

MERGES = [("r", "e"), ("re", "d</w>"), ("d", "o"), ("do", "g</w>")]  # "red" and "dog" are one piece each
TOKENIZER = Tokenizer(MERGES, context_length=32)
CONFIG = Config(
    name="small",
    text=TextConfig(TOKENIZER.vocab_size, 32, width=16, layers=1, heads=2, activation="quick_gelu"),
    vae=VAEConfig(channels=(8, 16), res_per_level=1, latent_channels=4, scale=0.5, groups=4),
    unet=UNetConfig((UNetLevel(8, 2, 0), UNetLevel(16, 2, 1)), context_width=16, res_per_level=1, groups=4),
    noise=NoiseConfig(),
    defaults=Defaults(size=16, steps=2, guidance=2.0),
    image=ImageConfig(16, patch=8, width=16, layers=1, heads=2, activation="quick_gelu"),
    embedding_width=12,
)


def small_clip() -> CLIP:
    r"""CLIP of random weights; which ones is up to torch's global generator."""
    assert CONFIG.image is not None and CONFIG.embedding_width is not None
    return CLIP(CONFIG.text, CONFIG.image, CONFIG.embedding_width)


def write_small_model(folder: Path, config: Config = CONFIG) -> Path:
    r"""A whole model folder of random weights, always the same ones. `config` may differ in its U-Net."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model, clip = LatentDiffusion(config, TOKENIZER), small_clip()
    write_config(folder, config)
    TOKENIZER.save(folder / "tokenizer")
    write_clip(folder, clip)
    write_tensors(folder / "vae.safetensors", model.vae.state_dict())
    write_tensors(folder / "unet.safetensors", model.unet.state_dict())
    return folder
