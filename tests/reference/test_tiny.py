r"""Tiny VAEs live: what diffusers saves opens here and computes the same; the golden file is what it answers now."""

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from ldm.loading import load_vae
from tests.golden.compare import assert_same, golden
from tests.golden.make_tiny import make_tiny, tiny_vae

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("latent_channels", [4, 16])
def test_a_folder_that_diffusers_writes_computes_the_same_here(tmp_path, latent_channels):
    theirs = tiny_vae(latent_channels)
    theirs.save_pretrained(tmp_path)
    ours = load_vae(tmp_path, "float64", "cpu")
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(2, 3, 16, 56, generator=generator, dtype=torch.float64)
    latent = 2 * torch.randn(2, latent_channels, 6, 3, generator=generator, dtype=torch.float64)
    assert_same(ours.encode(pixels)[0], theirs.encode(pixels).latents)
    assert_same(ours.decode(latent), theirs.decode(latent).sample)


def test_the_golden_file_is_what_the_reference_answers_now():
    stored, made = golden("tiny"), make_tiny()
    assert stored.keys() == made.keys()
    for key in stored:
        assert_same(made[key], stored[key])
