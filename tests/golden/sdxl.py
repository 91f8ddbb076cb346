r"""The small Stable Diffusion XL of `make_sdxl.py`, as ours; and the sinusoids that the reference computed."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ldm.checkpoints.key_map import text_rows, unet_rows, vae_rows
from ldm.config import SDXL, AddedConfig, Config, TextConfig, UNetConfig, UNetLevel, VAEConfig
from ldm.pipeline import LatentDiffusion
from ldm.text.tokenizer import Tokenizer
from tests.golden.compare import filled
from tests.small import MERGES

TOKENIZER = Tokenizer(MERGES, context_length=32)
TEXT = TextConfig(518, 32, width=16, layers=3, heads=2, activation="quick_gelu", output="hidden")
TEXT_2 = TextConfig(
    518, 32, width=24, layers=2, heads=3, activation="gelu", output="hidden", pad="zero", pooled_width=20
)
UNET = UNetConfig(
    (UNetLevel(16, 2, 0), UNetLevel(32, 4, 2), UNetLevel(48, 6, 3)),
    context_width=40,
    mid_depth=3,
    groups=8,
    added=AddedConfig(pooled_width=20, sinusoid_width=8),
)
REFINER_UNET = replace(UNET, added=AddedConfig(pooled_width=20, numbers=5, sinusoid_width=8))
CONFIG: Config = replace(
    SDXL,
    text=TEXT,
    text_2=TEXT_2,
    vae=VAEConfig((16, 32), res_per_level=1, latent_channels=4, scale=0.13025, groups=8),
    unet=UNET,
    defaults=replace(SDXL.defaults, size=32, steps=3),
)


def small_sdxl(config: Config = CONFIG) -> LatentDiffusion:
    r"""The whole model, with the weights of `weights.py`. `config` may have another U-Net."""
    model = LatentDiffusion(config, TOKENIZER)
    assert model.text_2 is not None
    filled(model.text, text_rows(TEXT))
    filled(model.text_2, text_rows(TEXT_2))
    filled(model.unet, unet_rows(config.unet, linear_projection=True))
    filled(model.vae, vae_rows(CONFIG.vae))
    return model.eval().requires_grad_(False)


def recorded_sinusoids(arrays: dict[str, Tensor]) -> Callable[[Tensor, int], Tensor]:
    r"""Takes the place of `timestep_embedding`: float32, and so in the last bit up to the processor."""

    def look_up(values: Tensor, width: int) -> Tensor:
        known = arrays[f"sinusoids/{width}/of"].tolist()
        return torch.stack([arrays[f"sinusoids/{width}"][known.index(value)] for value in values.tolist()])

    return look_up
