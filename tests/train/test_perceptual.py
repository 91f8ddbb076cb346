r"""The perceptual loss: distances between the features of two images."""

import pytest
import torch

from ldm.text.image import ImageEncoder, standardise
from ldm.train.perceptual import perceptual_loss, tiles
from tests.small import CONFIG

SIZE = CONFIG.image.size


@pytest.fixture
def encoder() -> ImageEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ImageEncoder(CONFIG.image).double()


@pytest.fixture
def pixels() -> torch.Tensor:
    return (
        torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    )


def test_tiles_are_the_image_cut_up_in_reading_order():
    image = torch.arange(2 * 3 * 4 * 6, dtype=torch.float64).reshape(2, 3, 4, 6)
    cut = tiles(image, 2)
    assert cut.shape == (12, 3, 2, 2)
    assert torch.equal(cut[1], image[0, :, :2, 2:4]) and torch.equal(cut[9], image[1, :, 2:, :2])
    assert torch.equal(tiles(image, 4), image[:, :, :, :4])


def test_the_same_image_costs_nothing_and_a_further_one_more(encoder, pixels):
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    losses = [perceptual_loss(encoder, pixels, pixels + a * noise, SIZE).item() for a in (0, 0.01, 0.1, 0.5)]
    assert losses[0] == 0 and losses == sorted(losses) and 1e-3 < losses[-1] < 4


def test_it_is_the_distance_between_the_directions_of_the_features(encoder, pixels):
    r"""The squared distance of unit vectors is 2 - 2 cos, which this computes independently."""
    other = pixels.flip(-1)
    total, layers = 0.0, len(encoder.layers)
    for a, b in zip(*(encoder.states(standardise(x)) for x in (pixels, other)), strict=True):
        total += (2 - 2 * torch.cosine_similarity(a, b, dim=-1)).mean().item()
    assert perceptual_loss(encoder, pixels, other, SIZE).item() == pytest.approx(total / layers, abs=1e-12)


def test_the_encoder_reads_its_answer_off_the_last_state(encoder, pixels):
    states = encoder.states(standardise(pixels))
    assert len(states) == len(encoder.layers)
    torch.testing.assert_close(encoder(standardise(pixels)), encoder.norm_out(states[-1][:, 0]))
