r"""The small model of `tests/golden/make_figures.py`, built from `ldm`, and its references, recorded with diffusers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ldm.checkpoints.key_map import text_rows, unet_rows, vae_rows
from ldm.config import Config, Defaults, NoiseConfig, TextConfig, UNetConfig, UNetLevel, VAEConfig
from ldm.lab.verify.references import read_references
from ldm.pipeline import LatentDiffusion
from ldm.text.tokenizer import Tokenizer
from tests.golden.compare import filled

CONFIG = Config(
    name="small",
    text=TextConfig(49408, 77, width=32, layers=2, heads=4, activation="quick_gelu"),
    vae=VAEConfig((16, 32), res_per_level=1, latent_channels=4, scale=0.18215, groups=8),
    unet=UNetConfig((UNetLevel(16, 4, 1), UNetLevel(32, 4, 0)), 32, res_per_level=1, groups=8),
    noise=NoiseConfig(),
    defaults=Defaults(size=16),
)


def small_model(prediction="eps", unet=CONFIG.unet):
    config = replace(CONFIG, unet=unet, noise=NoiseConfig(prediction=prediction))
    model = LatentDiffusion(config, Tokenizer.clip())
    filled(model.text, text_rows(config.text))
    filled(model.unet, unet_rows(config.unet))
    filled(model.vae, vae_rows(config.vae))
    return model.eval()


@pytest.fixture
def build():
    r"""`build(prediction, unet)`: the small model in float64."""
    return small_model


@pytest.fixture(scope="session")
def recorded():
    r"""All references of the small model, with either prediction."""
    return read_references(Path(__file__).parents[2] / "golden" / "figures.json")


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    r"""The folder with the publisher's files."""
    folder = tmp_path_factory.mktemp("files")
    for name, seed, shape in (("pixels", 33, (2, 3, 16, 16)), ("context", 35, (2, 77, 32))):
        np.save(folder / f"{name}.npy", np.random.RandomState(seed).standard_normal(shape))
    return folder
