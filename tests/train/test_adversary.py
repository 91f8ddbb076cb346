r"""The patch discriminator, its losses, and the weight that balances it."""

import pytest
import torch
from torch import nn

from ldm.train.adversary import Discriminator, adaptive_weight, discriminator_loss, frozen_logits


@pytest.fixture
def discriminator() -> Discriminator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Discriminator().double()


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


def test_hinge_loss_by_hand():
    r"""Real logits 2, 0, -1 fall short of 1 by 0, 1, 2: mean 1. Fake logits -3, 0, 1 exceed -1 by 0, 1, 2: mean 1."""
    real, fake = torch.tensor([2.0, 0.0, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    assert discriminator_loss(real[None, None, None], fake[None, None, None]).item() == 1.0
    ignorant = torch.zeros(1, 1, 3, 3)
    assert discriminator_loss(ignorant, ignorant).item() == 1.0


def test_there_is_a_verdict_for_each_patch_and_it_depends_on_that_patch(discriminator, pixels):
    discriminator.layers = nn.Sequential(
        *(m for m in discriminator.layers if not isinstance(m, nn.GroupNorm))
    )  # it sees everything
    changed = pixels.clone()
    changed[:, :, :4, :4] = 0
    difference = (discriminator(pixels) - discriminator(changed)).abs()
    assert difference.shape == (2, 1, 4, 4)
    assert difference[:, :, 0, 0].min() > 0 and difference[:, :, -1, -1].max() == 0


def test_a_verdict_does_not_depend_on_the_neighbours_in_the_batch(discriminator, pixels):
    torch.testing.assert_close(discriminator(pixels)[:1], discriminator(pixels[:1]), rtol=0, atol=1e-12)


def test_the_vae_hears_the_verdict_and_the_judge_does_not(discriminator, pixels):
    fake = pixels.requires_grad_()
    torch.testing.assert_close(frozen_logits(discriminator, fake), discriminator(fake))
    frozen_logits(discriminator, fake).sum().backward()
    assert fake.grad.abs().sum() > 0
    assert all(p.grad is None for p in discriminator.parameters())


def test_the_adversary_is_made_to_pull_as_hard_as_the_rest():
    r"""Gradients (3, 4) and (0, 10) have the lengths 5 and 10."""
    last = nn.Parameter(torch.ones(2, dtype=torch.float64))
    rest, adversarial = (last * torch.tensor([3.0, 4.0])).sum(), 10 * last[1]
    assert adaptive_weight(rest, adversarial, last).item() == pytest.approx(5 / 10.0001, abs=1e-12)
    assert adaptive_weight(rest, 0 * adversarial, last).item() == 1e4  # bounded
    assert not adaptive_weight(rest, adversarial, last).requires_grad


def test_a_discriminator_learns_to_see_blur(discriminator, pixels):
    blurred = nn.functional.avg_pool2d(pixels, 3, stride=1, padding=1)
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = discriminator_loss(discriminator(pixels), discriminator(blurred))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.8 and losses[-1] < 0.3
