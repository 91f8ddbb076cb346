r"""The model that is measured: whole, of the sizes asked for, and tame."""

import torch

import ldm
from ldm.lab.bench.workload import random_weights, write_model
from tests.checkpoints.made import tokenizer
from tests.lab.bench.conftest import SIZES


def test_it_is_a_whole_model_that_generates_images(folder):
    model = ldm.load(folder, torch.float32)
    assert model.config.unet == SIZES.config.unet and model.config.vae == SIZES.config.vae
    assert len(model.generate("a dog", seed=0, steps=2, size=(16, 16))) == 1  # which raises on infinity
    assert (folder / "unet/diffusion_pytorch_model.safetensors").is_file()


def test_it_is_the_same_every_time_and_nothing_else_is_left(folder, tmp_path):
    write_model(tmp_path / "again", SIZES.config, tokenizer(SIZES.config))
    assert [path.name for path in tmp_path.iterdir()] == ["again"]
    name = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_weights_keep_the_size_of_what_passes_through():
    generator = torch.Generator().manual_seed(1)
    assert random_weights("norm_1.weight", (5,), generator).tolist() == [1.0] * 5
    assert random_weights("norm_1.bias", (5,), generator).tolist() == [0.0] * 5
    out = random_weights("conv.weight", (300, 40, 3, 3), generator).flatten(1) @ torch.ones(360)
    assert 0.9 < out.std() < 1.1  # 300 sums of 360 numbers of variance 1 / 360
